"""The differences that are known and why they are right. Each row is checked: the difference must still be
there, with these values, for every seed; and any other difference is a failure. differences.md is made of
this table by `conform.py --write-md`.

(reading, fixture, field, the reading says, llmgw.h says, why)"""

PARTIAL_ARGS = ("google-genai hands partialArgs on as they come (function_call.partial_args) and assembles "
                "nothing, so its args are empty; llmgw.h assembles them, as the plain reading does")
XAI = ("xAI counts reasoning beside completion_tokens (total = prompt + completion + reasoning). The SDK repeats "
       "the wire; llmgw.h promises that output includes reasoning, so it adds")


def u(input, output, cached=0, reasoning=0):
    return {"input": input, "output": output, "cached": cached, "cache_write": 0, "cache_write_1h": 0,
            "reasoning": reasoning}


OA, AN, GE = "openai-chat/", "anthropic-messages/", "gemini-generatecontent/"
VARIANT_A = OA + "llm__test_tools_streaming_variant_a.1.response.sse"
SPLICED = AN + "vercel__spliced-message-start.sse"
SPLICE = ("A message with another id begins while the first is open. The SDK ignores its message_start, appends its "
          "blocks and mixes the two by index: the first call gets the input 'Spark{', the second none, and it "
          "reports success. llmgw.h calls it E_PROTOCOL, as vercel/ai does, where the fixture is from")
NO_DETAILS = AN + "vercel__anthropic-refusal-no-details.json"
REFUSAL = ("The reply has stop_reason refusal and no stop_details: there is no text to hand on; llmgw.h says the "
           "stop reason's word rather than NULL")
GROQ = "groq/pydanticai__test_tool_use_failed_error."
GROQ_STREAM = "groq/pydanticai__test_tool_use_failed_error_streaming."
TOOL_USE_FAILED = ("Groq answers 400 tool_use_failed when the model wrote a bad tool call: the request was right and "
                   "the same call may succeed, so llmgw.h calls it E_PROVIDER, which is retryable")

ROUTER = "azure-openai/vercel__azure-model-router.1.sse"
FILTERS_FIRST = ("The first chunk brings the results of the content filter, with an empty id and model: the SDK's accumulator "
                 "keeps those, llmgw.h the first that are not empty")
SEVERAL = "openai-responses/vercel__openai-reasoning-encrypted-content.1.sse"
ONE_REPLY = ("The file holds the replies of a whole tool loop, one after the other: the SDK's stream helper reads on and "
             "keeps the last, llmgw.h ends with the first response.completed, as the plain reading does")
BEDROCK = "bedrock-converse/pydanticai__test_"
NO_MODEL = ("Bedrock answers 400 ValidationException where the model id is of no model: llmgw.h calls it E_NOT_FOUND, as it "
            "does with every other provider's unknown model")
CITATIONS = ("citationsContent comes only where a document was sent with citations enabled, which llmgw.h never does: it "
             "reads none")

ROWS = [
    ("sdk", VARIANT_A, "tools", [["00", "llm_versionllm_version", {}]], [["0", "llm_version", {}]],
     "The server repeats id and name in every delta: the SDK's accumulator joins them, llmgw.h keeps the first"),
    ("sdk", VARIANT_A, "finish", "none", "tool",
     "The server never sends a finish_reason, only [DONE]: the SDK leaves None; llmgw.h has a complete call and "
     "a proper end, so TOOL"),
    ("sdk", OA + "llm__test_tools_streaming_variant_d.1.response.sse", "tools",
     [["0", "llm_version", {"not json": None}]], [["0", "llm_version", {}]],
     "arguments is null in the only delta: the SDK leaves None, llmgw.h promises \"{}\""),
    ("sdk", OA + "pydanticai__test_openai_moderation_stream.response.sse", "usage", None, u(13, 11),
     "A moderation chunk without usage follows the usage chunk: the SDK's accumulator overwrites usage with "
     "None, llmgw.h keeps the last usage that was reported"),
    ("sdk", OA + "vercel__xai-text.json", "usage", u(12, 2, 2, 320), u(12, 322, 2, 320), XAI),
    ("sdk", OA + "vercel__xai-tool-call.sse", "usage", u(307, 26, 306, 227), u(307, 253, 306, 227), XAI),
    ("sdk", SPLICED, "error", None, "E_PROTOCOL", SPLICE),
    ("sdk", GE + "vercel__google-stream-no-args-tool-call.sse", "tools",
     [["", "read_theme", {}], ["", "read_screen", {}], ["", "read_screen", {}], ["", "read_screen", {}]],
     [["", "read_theme", {}], ["", "read_screen", {"id": "A"}], ["", "read_screen", {"id": "B"}],
      ["", "read_screen", {"id": "C"}]], PARTIAL_ARGS),
    ("sdk", GE + "vercel__google-stream-tool-call-arguments.sse", "tools",
     [["", "getWeather", {}], ["", "getWeather", {}]],
     [["", "getWeather", {"location": "Boston"}], ["", "getWeather", {"location": "San Francisco"}]],
     PARTIAL_ARGS),
    ("sdk", NO_DETAILS, "refusal", None, "refusal", REFUSAL),
    ("plain", NO_DETAILS, "refusal", None, "refusal", REFUSAL),
    ("sdk", GROQ + "1.response.json", "error.code", "E_BAD_REQUEST", "E_PROVIDER", TOOL_USE_FAILED),
    ("plain", GROQ + "1.response.json", "error.code", "E_BAD_REQUEST", "E_PROVIDER", TOOL_USE_FAILED),
    ("sdk", GROQ_STREAM + "1.response.sse", "error.code", "E_BAD_REQUEST", "E_PROVIDER", TOOL_USE_FAILED),
    ("plain", GROQ_STREAM + "1.response.sse", "error.code", "E_BAD_REQUEST", "E_PROVIDER", TOOL_USE_FAILED),
    ("sdk", "moonshot/vercel__moonshotai-reasoning.json", "usage", u(20, 30, 0, 22), u(20, 30, 10, 22),
     "Moonshot reports cached tokens as usage.cached_tokens, a field the SDK's types do not know"),
    ("sdk", ROUTER, "id", "", "chatcmpl-CYPS1lijGoK8gd9lYzY3r9Sx50nbt", FILTERS_FIRST),
    ("sdk", ROUTER, "model", "", "gpt-5-nano-2025-08-07", FILTERS_FIRST),
    ("sdk", SEVERAL, "text", "The final result is **570**.", "", ONE_REPLY),
    ("sdk", SEVERAL, "reasoning", "", "**Calculating step-by-step using calculator**\n\nI'll compute 12 plus 7, then "
     "multiply the result by 3, and finally multiply that by 10, reporting the final product.", ONE_REPLY),
    ("sdk", SEVERAL, "finish", "stop", "tool", ONE_REPLY),
    ("sdk", SEVERAL, "usage", u(299, 12), u(134, 28), ONE_REPLY),
    ("sdk", SEVERAL, "id", "resp_01830d662ab3856501693c3217ba4c8190a3ddf6c839d4f12a",
     "resp_01830d662ab3856501693c321345c88190b0de00f3b9975691", ONE_REPLY),
    ("sdk", SEVERAL, "tools", [], [["call_AB6AaRZ1FYZB2RwS6A5vbdqn", "calculator", {"a": 12, "b": 7, "op": "add"}]], ONE_REPLY),
    ("sdk", "made/bedrock-citations", "text", "It is red.", "It is ", CITATIONS),
    ("plain", "made/bedrock-citations", "text", "It is red.", "It is ", CITATIONS),
] + [(who, BEDROCK + name + ".response.json", "error.code", "E_BAD_REQUEST", "E_NOT_FOUND", NO_MODEL)
     for name in ("bedrock_error", "bedrock_streaming_error", "model_name_suggestion_bedrock_") for who in ("sdk", "plain")]

FOREIGN = {
    OA + "pydanticai__test_invalid_response.response.json": "a stray JSON object with status 200",
    OA + "pydanticai__test_multimodal_tool_return_matrix_direct-url-audio-openai_chat_.2.response.txt":
        "an mp3 file (a tool's download, recorded beside the chat)",
    OA + "vercel__openai-embedding.json": "an embeddings reply",
    "mistral/pydanticai__test_mistral_model_thinking_part.1.response.json":
        "a reply of the OpenAI Responses API, misfiled",
    "openrouter/llm-openrouter__test_prompt.1.response.json": "a list of models",
    "openrouter/llm-openrouter__test_tool_calls.1.response.json": "a list of models",
    "openrouter/llm-openrouter__test_prompt.2.response.sse": "a stream of the Responses API, misfiled",
    "openrouter/llm-openrouter__test_reasoning.2.response.sse": "a stream of the Responses API, misfiled",
}

# Keys of requests that an SDK's types do not know: request -> keys. Checked as ROWS are.
UNKNOWN_KEYS = {
    "anthropic-settings": [".temperature", ".top_k"],
}
UNKNOWN_KEYS_WHY = ("the anthropic SDK has taken temperature, top_p and top_k out of its request types, since its newest "
                    "models refuse all but the default; the API takes them for the models before (WIRE.md 1, and "
                    "the recorded requests), so llmgw.h sends them when they are set")

# What a request of asks.py says in another way than its SDK's types: name -> why. Checked as ROWS are.
SAID_OTHERWISE = {
    "responses-history": "an assistant's text goes back as output_text without the id and status that the SDK's type requires: "
                         "with store: false there is nothing that an id could name",
}
