/* fake_responses.h - OpenAI's Responses for fake_provider.c, which includes this after its own dialects.
 *
 *   POST .../responses
 *
 * It keeps nothing, so "store" must be false, and a reasoning item must come back with its id and its
 * encrypted_content, which belong together. Faults of its own: "finish":"failed" ends with response.failed,
 * any other "finish" but "completed" with response.incomplete for that reason; "error_after" sends an error
 * event, its fields under "error" as recorded and followed by response.failed, or with "flat":true as the
 * specification has it and nothing after. A summary of the reasoning is only told when it was asked for, or
 * comes from the fault "reasoning".
 *
 * Contents: requests, replies. */

/* ---------------------------------------------------------------- responses: requests */

static const Field responses_fields[] = {
    {"model", T_STR | T_NEED, 0, 0},
    {"input", T_STR | T_ARR | T_NEED, 0, 0},
    {"instructions", T_STR | T_NULL, 0, 0},
    {"max_output_tokens", T_INT | T_NULL, 16, 1e9},
    {"temperature", T_NUM | T_NULL, 0, 2},
    {"top_p", T_NUM | T_NULL, 0, 1},
    {"stream", T_BOOL | T_NULL, 0, 0},
    {"stream_options", T_OBJ | T_NULL, 0, 0},
    {"store", T_BOOL | T_NULL, 0, 0},
    {"include", T_ARR | T_NULL, 0, 0},
    {"tools", T_ARR, 0, 0},
    {"tool_choice", T_STR | T_OBJ, 0, 0},
    {"parallel_tool_calls", T_BOOL | T_NULL, 0, 0},
    {"max_tool_calls", T_INT | T_NULL, 0, 0},
    {"reasoning", T_OBJ | T_NULL, 0, 0},
    {"text", T_OBJ, 0, 0},
    {"metadata", T_OBJ | T_NULL, 0, 0},
    {"user", T_STR, 0, 0},
    {"safety_identifier", T_STR | T_NULL, 0, 0},
    {"prompt_cache_key", T_STR | T_NULL, 0, 0},
    {"prompt_cache_retention", T_STR | T_NULL, 0, 0},
    {"prompt_cache_options", T_OBJ | T_NULL, 0, 0},
    {"service_tier", T_STR | T_NULL, 0, 0},
    {"truncation", T_STR | T_NULL, 0, 0},
    {"top_logprobs", T_INT | T_NULL, 0, 20},
    {"background", T_BOOL | T_NULL, 0, 0},
};

/* What makes an id and the encrypted content belong together. */
static void responses_secret(Buf *b, const char *id) {
    char raw[40];
    int n = snprintf(raw, sizeof raw, "enc-%u-enc-enc", hash32(id, strlen(id)));
    buf_str(b, "gAAAAABo");
    base64_put(b, raw, (size_t)n);
}

static bool responses_image(Req *r, json_t *part, Buf *images, const char *where) {
    static const Field f[] = {{"type", T_STR, 0, 0},
                              {"image_url", T_STR | T_NULL, 0, 0},
                              {"file_id", T_STR | T_NULL, 0, 0},
                              {"detail", T_STR, 0, 0},
                              {"prompt_cache_breakpoint", T_OBJ, 0, 0}};
    if (!ONLY_FIELDS(r, part, f, where)) return false;
    if (json_object_get(part, "detail") && !ONE_OF(str_of(part, "detail"), "auto", "low", "high", "original"))
        return bad(r, "%s.detail: invalid", where);
    if (*str_of(part, "file_id")) return true;
    return take_url(r, images, str_of(part, "image_url"), where);
}

static bool responses_file(Req *r, json_t *part, const char *where) {
    static const Field f[] = {{"type", T_STR, 0, 0},
                              {"file_id", T_STR | T_NULL, 0, 0},
                              {"filename", T_STR, 0, 0},
                              {"file_data", T_STR, 0, 0},
                              {"file_url", T_STR, 0, 0},
                              {"detail", T_STR, 0, 0},
                              {"prompt_cache_breakpoint", T_OBJ, 0, 0}};
    const char *data = str_of(part, "file_data");
    if (!ONLY_FIELDS(r, part, f, where)) return false;
    if (*str_of(part, "file_id") || *str_of(part, "file_url")) return true;
    if (!starts_with(data, "data:")) return bad(r, "%s: file_id, file_url or file_data is needed", where);
    return take_data_url(r, NULL, data, where);
}

static bool responses_text(Req *r, json_t *part, const char *key, Buf *into, const char *where) {
    if (!json_is_string(json_object_get(part, key))) return bad(r, "%s.%s: must be a string", where, key);
    take_text(r, into, json_object_get(part, key));
    return true;
}

/* role: whose part, "" of a tool's output, which is like a user's. */
static bool responses_part(Req *r, json_t *part, const char *role, Buf *text, const char *where) {
    const char *type = str_of(part, "type");
    bool user = !strcmp(role, "user") || !*role;
    char told[200];
    if (!strcmp(role, "assistant")) {
        if (!strcmp(type, "output_text")) return responses_text(r, part, "text", text, where);
        if (!strcmp(type, "refusal")) return responses_text(r, part, "refusal", NULL, where);
        snprintf(told, sizeof told,
                 "Invalid value: '%.40s'. Supported values are: 'output_text' and 'refusal'. (%.60s)", type,
                 where);
        return bad_code(r, "invalid_value", NULL, told);
    }
    if (!strcmp(type, "input_text")) return responses_text(r, part, "text", text, where);
    if (user && !strcmp(type, "input_image"))
        return responses_image(r, part, *role ? &r->ask.images : NULL, where);
    if (user && !strcmp(type, "input_file")) return responses_file(r, part, where);
    if (user && !strcmp(type, "input_audio")) return openai_audio(r, part, where);
    return bad(r, "%s.type: invalid value '%s' for role '%s'", where, type, role);
}

static bool responses_content(Req *r, json_t *c, const char *role, Buf *text, const char *where) {
    json_t *part;
    size_t i;
    char at[100];
    if (json_is_string(c)) {
        take_text(r, text, c);
        return true;
    }
    if (!json_array_size(c)) return bad(r, "%s: must be a string or a nonempty array", where);
    json_array_foreach(c, i, part) {
        snprintf(at, sizeof at, "%s[%zu]", where, i);
        if (!responses_part(r, part, role, text, at)) return false;
    }
    return true;
}

/* State of a walk over the items. */
typedef struct Items {
    json_t *open; /* call ids without their output */
    json_t *seen; /* all call ids */
    bool reasons; /* the item before was a reasoning item */
} Items;

static bool responses_message(Req *r, json_t *item, const char *where) {
    static const Field f[] = {{"type", T_STR, 0, 0},   {"role", T_STR | T_NEED, 0, 0},
                              {"id", T_STR, 0, 0},     {"content", T_STR | T_ARR | T_NEED, 0, 0},
                              {"status", T_STR, 0, 0}, {"phase", T_STR | T_NULL, 0, 0}};
    const char *role = str_of(item, "role");
    char at[100];
    snprintf(at, sizeof at, "%s.content", where);
    if (!ONLY_FIELDS(r, item, f, where)) return false;
    if (!ONE_OF(role, "user", "assistant", "system", "developer"))
        return bad(r, "%s.role: invalid value '%s'", where, role);
    if (json_object_get(item, "id") && !starts_with(str_of(item, "id"), "msg_"))
        return bad(r, "Invalid '%s.id': Expected an ID that begins with 'msg'.", where);
    bool user = !strcmp(role, "user");
    if (user) r->ask.user.n = r->ask.images.n = 0;
    r->ask.results.n = 0;
    r->ask.has_results = false;
    return responses_content(r, json_object_get(item, "content"), role, user ? &r->ask.user : NULL, at);
}

static bool responses_call(Req *r, json_t *item, Items *w, const char *where) {
    static const Field f[] = {{"type", T_STR, 0, 0},
                              {"id", T_STR, 0, 0},
                              {"call_id", T_STR | T_NEED, 0, 0},
                              {"name", T_STR | T_NEED, 0, 0},
                              {"arguments", T_STR | T_NEED, 0, 0},
                              {"status", T_STR, 0, 0}};
    const char *id = str_of(item, "call_id");
    if (!ONLY_FIELDS(r, item, f, where)) return false;
    if (!*id || strlen(id) > 64) return bad(r, "%s.call_id: 1 to 64 characters", where);
    if (!name_ok(str_of(item, "name"), "_-", 64)) return bad(r, "%s.name: invalid", where);
    if (json_object_get(item, "id") && !starts_with(str_of(item, "id"), "fc_"))
        return bad(r, "Invalid '%s.id': '%s'. Expected an ID that begins with 'fc'.", where,
                   str_of(item, "id"));
    if (json_object_get(w->seen, id)) return bad(r, "%s.call_id: a second call with id %s", where, id);
    take_text(r, NULL, json_object_get(item, "arguments"));
    json_object_set_new(w->open, id, json_true());
    json_object_set_new(w->seen, id, json_true());
    r->ask.results.n = 0;
    r->ask.has_results = false;
    return true;
}

static bool responses_output(Req *r, json_t *item, Items *w, const char *where) {
    static const Field f[] = {{"type", T_STR, 0, 0},
                              {"id", T_STR | T_NULL, 0, 0},
                              {"call_id", T_STR | T_NEED, 0, 0},
                              {"output", T_STR | T_ARR | T_NEED, 0, 0},
                              {"status", T_STR | T_NULL, 0, 0}};
    char at[100];
    if (!ONLY_FIELDS(r, item, f, where)) return false;
    if (json_object_del(w->open, str_of(item, "call_id")))
        return bad(r, "No tool call found for function call output with call_id %s.",
                   str_of(item, "call_id"));
    if (r->ask.has_results) buf_str(&r->ask.results, "; ");
    r->ask.has_results = true;
    snprintf(at, sizeof at, "%s.output", where);
    return responses_content(r, json_object_get(item, "output"), "", &r->ask.results, at);
}

static bool responses_thought(Req *r, json_t *item, const char *where) {
    static const Field f[] = {{"type", T_STR, 0, 0},
                              {"id", T_STR | T_NEED, 0, 0},
                              {"summary", T_ARR | T_NEED, 0, 0},
                              {"encrypted_content", T_STR | T_NULL, 0, 0},
                              {"content", T_ARR, 0, 0},
                              {"status", T_STR | T_NULL, 0, 0}};
    const char *id = str_of(item, "id"), *have = str_of(item, "encrypted_content");
    json_t *s;
    size_t i;
    if (!ONLY_FIELDS(r, item, f, where)) return false;
    json_array_foreach(
        json_object_get(item, "summary"), i,
        s) if (strcmp(str_of(s, "type"), "summary_text") ||
               !json_is_string(json_object_get(
                   s, "text"))) return bad(r, "%s.summary[%zu]: must be {type:summary_text, text}", where, i);
    if (!*have)
        return bad(
            r,
            "Item with id '%s' not found. Items are not persisted when `store` is set to false. Try again "
            "with `store` set to true, or remove this item from your input.",
            id);
    Buf want = {0};
    responses_secret(&want, id);
    bool same = !strcmp(want.p, have);
    buf_free(&want);
    return same ||
           bad_code(r, "invalid_encrypted_content", NULL,
                    "The encrypted content could not be verified. Reason: Encrypted content could not be "
                    "decrypted or parsed.");
}

static bool responses_item(Req *r, json_t *item, Items *w, size_t i) {
    const char *type = str_of(item, "type");
    char where[40];
    snprintf(where, sizeof where, "input[%zu]", i);
    if (!json_is_object(item)) return bad(r, "%s: must be an object", where);
    bool answers = !*type || !strcmp(type, "message") ? !strcmp(str_of(item, "role"), "assistant")
                                                      : ONE_OF(type, "function_call", "reasoning");
    if (w->reasons && !answers)
        return bad(r, "Item of type 'reasoning' before %s was provided without its required following item.",
                   where);
    w->reasons = !strcmp(type, "reasoning");
    if (!*type || !strcmp(type, "message")) return responses_message(r, item, where);
    if (!strcmp(type, "function_call")) return responses_call(r, item, w, where);
    if (!strcmp(type, "function_call_output")) return responses_output(r, item, w, where);
    if (w->reasons) return responses_thought(r, item, where);
    return bad(r, "Invalid value: '%s'. Supported values are: 'message', 'function_call', ... (%s.type)",
               type, where);
}

static bool responses_input(Req *r) {
    json_t *list = json_object_get(r->root, "input"), *item;
    Items w = {json_object(), json_object(), false};
    size_t i;
    if (json_is_string(list)) take_text(r, &r->ask.user, list);
    bool ok = json_is_string(list) ? json_string_length(list) || bad(r, "input: must not be empty")
                                   : json_array_size(list) || bad(r, "input: must not be empty");
    json_array_foreach(list, i, item) ok = ok && responses_item(r, item, &w, i);
    if (ok && w.reasons)
        ok = bad(r, "Item of type 'reasoning' was provided without its required following item.");
    if (ok && json_object_size(w.open))
        ok = bad(r, "No tool output found for function call %s.",
                 json_object_iter_key(json_object_iter(w.open)));
    json_decref(w.open);
    json_decref(w.seen);
    return ok;
}

static bool responses_tools(Req *r) {
    static const Field f[] = {{"type", T_STR | T_NEED, 0, 0},
                              {"name", T_STR | T_NEED, 0, 0},
                              {"description", T_STR | T_NULL, 0, 0},
                              {"parameters", T_OBJ | T_NULL, 0, 0},
                              {"strict", T_BOOL | T_NULL, 0, 0}};
    json_t *t;
    size_t i;
    char where[40];
    json_array_foreach(json_object_get(r->root, "tools"), i, t) {
        json_t *params = json_object_get(t, "parameters");
        snprintf(where, sizeof where, "tools[%zu]", i);
        if (strcmp(str_of(t, "type"), "function")) return bad(r, "%s.type: must be 'function'", where);
        if (!ONLY_FIELDS(r, t, f, where)) return false;
        if (json_is_object(params) && !check_params(r, params, where)) return false;
        if (!add_tool(r, t, "_-", 64, where)) return false;
    }
    return true;
}

static bool responses_choice(Req *r) {
    static const Field f[] = {{"type", T_STR | T_NEED, 0, 0}, {"name", T_STR | T_NEED, 0, 0}};
    json_t *choice = json_object_get(r->root, "tool_choice");
    const char *word = json_string_value(choice);
    if (!choice) return true;
    if (word && !ONE_OF(word, "auto", "none", "required"))
        return bad(r, "tool_choice: invalid value '%s'", word);
    if (word && strcmp(word, "required")) return r->ask.no_calls = !strcmp(word, "none"), true;
    if (!r->ask.tools) return bad(r, "Tool choices other than 'none' or 'auto' need 'tools'.");
    if (word) return r->ask.forced = json_array_get(r->ask.tools, 0), true;
    if (!ONLY_FIELDS(r, choice, f, "tool_choice")) return false;
    r->ask.forced = find_tool(r, str_of(choice, "name"));
    bool ok = !strcmp(str_of(choice, "type"), "function") && r->ask.forced;
    return ok || bad(r, "Tool choice '%s' not found in 'tools' parameter.", str_of(choice, "name"));
}

static bool responses_format(Req *r) {
    static const Field top[] = {{"format", T_OBJ | T_NULL, 0, 0}, {"verbosity", T_STR | T_NULL, 0, 0}},
                       inner[] = {{"type", T_STR | T_NEED, 0, 0},
                                  {"name", T_STR | T_NEED, 0, 0},
                                  {"schema", T_OBJ | T_NEED, 0, 0},
                                  {"description", T_STR, 0, 0},
                                  {"strict", T_BOOL | T_NULL, 0, 0}};
    json_t *text = json_object_get(r->root, "text"), *format = json_object_get(text, "format");
    const char *type = str_of(format, "type"), *verbosity = str_of(text, "verbosity");
    if (!text) return true;
    if (!ONLY_FIELDS(r, text, top, "text")) return false;
    if (*verbosity && !ONE_OF(verbosity, "low", "medium", "high")) return bad(r, "text.verbosity: invalid");
    if (!json_is_object(format) || !strcmp(type, "text")) return true;
    if (!strcmp(type, "json_object")) return r->ask.json_object = true;
    if (strcmp(type, "json_schema")) return bad(r, "text.format.type: invalid value '%s'", type);
    if (!ONLY_FIELDS(r, format, inner, "text.format")) return false;
    if (!name_ok(str_of(format, "name"), "_-", 64)) return bad(r, "text.format.name: invalid");
    r->ask.schema = json_object_get(format, "schema");
    return check_schema(r, r->ask.schema, "text.format.schema");
}

static bool responses_gate(Req *r, const char *param) {
    char text[100];
    snprintf(text, sizeof text, "Unsupported parameter: '%s' is not supported with this model.", param);
    return bad_code(r, NULL, param, text);
}

static bool responses_reasoning(Req *r) {
    static const Field f[] = {{"effort", T_STR | T_NULL, 0, 0},
                              {"summary", T_STR | T_NULL, 0, 0},
                              {"generate_summary", T_STR | T_NULL, 0, 0}};
    json_t *re = json_object_get(r->root, "reasoning");
    const char *effort = str_of(re, "effort"), *summary = str_of(re, "summary");
    bool reasons =
        starts_with(r->model, "gpt-5") || (r->model[0] == 'o' && isdigit((unsigned char)r->model[1]));
    if (reasons && json_is_number(json_object_get(r->root, "temperature")))
        return responses_gate(r, "temperature");
    if (reasons && json_is_number(json_object_get(r->root, "top_p"))) return responses_gate(r, "top_p");
    if (!json_is_object(re)) return true;
    if (!ONLY_FIELDS(r, re, f, "reasoning")) return false;
    if (*effort && !ONE_OF(effort, "none", "minimal", "low", "medium", "high", "xhigh", "max"))
        return bad(r, "reasoning.effort: invalid value '%s'", effort);
    if (*summary && !ONE_OF(summary, "auto", "concise", "detailed"))
        return bad(r, "reasoning.summary: invalid value '%s'", summary);
    if (*effort && strcmp(effort, "none") && starts_with(r->model, "gpt-4"))
        return responses_gate(r, "reasoning.effort");
    r->ask.reasoning = (*effort && strcmp(effort, "none")) || *summary;
    return true;
}

static bool responses_include(Req *r) {
    json_t *v;
    size_t i;
    json_array_foreach(json_object_get(r->root, "include"), i, v) {
        const char *s = json_string_value(v) ? json_string_value(v) : "";
        if (!ONE_OF(s, "reasoning.encrypted_content", "message.output_text.logprobs",
                    "message.input_image.image_url"))
            return bad(r, "Invalid value: '%s'. (include[%zu])", s, i);
        if (starts_with(s, "reasoning")) r->ask.encrypted = true;
    }
    return true;
}

static bool responses_validate(Req *r) {
    static const Field so[] = {{"include_obfuscation", T_BOOL, 0, 0}};
    json_t *options = json_object_get(r->root, "stream_options"),
           *max = json_object_get(r->root, "max_output_tokens");
    if (!ONLY_FIELDS(r, r->root, responses_fields, "")) return false;
    if (!json_is_false(json_object_get(r->root, "store")))
        return bad(r, "store: must be false, for nothing is kept here");
    r->ask.stream = json_is_true(json_object_get(r->root, "stream"));
    r->ask.usage_asked = true;
    r->ask.one_call = json_is_false(json_object_get(r->root, "parallel_tool_calls"));
    r->ask.max_tokens = json_is_integer(max) ? json_integer_value(max) : -1;
    if (json_is_object(options) && !r->ask.stream)
        return bad(r, "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
    if (json_is_object(options) && !ONLY_FIELDS(r, options, so, "stream_options")) return false;
    take_text(r, NULL, json_object_get(r->root, "instructions"));
    return responses_include(r) && responses_reasoning(r) && responses_tools(r) && responses_choice(r) &&
           responses_format(r) && responses_input(r);
}

/* ---------------------------------------------------------------- responses: replies */

/* The number of the request, which all its ids share. */
static const char *responses_number(const Req *r) { return r->id + strlen(own(r)->id); }

static void responses_usage(Req *r, Buf *b) {
    Answer *a = &r->ans;
    if (r->f.usage_none) return buf_str(b, "null");
    buf_fmt(b,
            "{\"input_tokens\":%lld,\"input_tokens_details\":{\"cached_tokens\":%lld},\"output_tokens\":%lld,"
            "\"output_tokens_details\":{\"reasoning_tokens\":%lld},\"total_tokens\":%lld}",
            (long long)a->in, (long long)a->cached, (long long)a->out, (long long)a->thought,
            (long long)(a->in + a->out));
}

/* Is the summary told? */
static bool summary_told(const Req *r) {
    return r->f.reasoning || *str_of(json_object_get(r->root, "reasoning"), "summary");
}

static void responses_reasoning_item(Req *r, Buf *b, bool done) {
    char id[60];
    snprintf(id, sizeof id, "rs_%s", responses_number(r));
    buf_fmt(b, "{\"id\":\"%s\",\"type\":\"reasoning\",", id);
    if (r->ask.encrypted) {
        buf_str(b, "\"encrypted_content\":\"");
        responses_secret(b, id);
        buf_str(b, "\",");
    }
    buf_str(b, "\"summary\":[");
    if (done && summary_told(r)) {
        buf_str(b, "{\"type\":\"summary_text\",\"text\":");
        buf_json(b, r->ans.reasoning.p, r->ans.reasoning.n);
        buf_str(b, "}");
    }
    buf_str(b, "]}");
}

static bool responses_cut_short(const Req *r) { return !ONE_OF(finish_word(r), "completed", "failed"); }

/* text NULL: that of the answer, at its end. */
static void responses_content_part(Req *r, Buf *b, const char *text) {
    Answer *a = &r->ans;
    bool refusal = a->refusal.n > 0;
    buf_str(b, refusal ? "{\"type\":\"refusal\",\"refusal\":"
                       : "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":");
    if (text)
        buf_jstr(b, text);
    else if (refusal)
        buf_json(b, a->refusal.p, a->refusal.n);
    else if (b == &r->out.body)
        put_plain_text(r);
    else
        buf_json(b, buf_text(&a->text), a->text.n);
    buf_str(b, "}");
}

static void responses_message_item(Req *r, Buf *b, bool done) {
    buf_fmt(b, "{\"id\":\"msg_%s\",\"type\":\"message\",\"status\":\"%s\",\"content\":[", responses_number(r),
            !done                    ? "in_progress"
            : responses_cut_short(r) ? "incomplete"
                                     : "completed");
    if (done) responses_content_part(r, b, NULL);
    buf_str(b, "],\"role\":\"assistant\"}");
}

static void responses_call_item(Req *r, Buf *b, size_t i, bool done) {
    const Call *c = &r->ans.calls[i];
    buf_fmt(b, "{\"id\":\"fc_%s_%zu\",\"type\":\"function_call\",\"status\":\"%s\",\"arguments\":",
            responses_number(r), i, done ? "completed" : "in_progress");
    buf_json(b, done ? buf_text(&c->args) : "", done ? c->args.n : 0);
    buf_fmt(b, ",\"call_id\":\"%s\",\"name\":", c->id);
    buf_jstr(b, c->name);
    buf_str(b, "}");
}

static void responses_items(Req *r, Buf *b) {
    Answer *a = &r->ans;
    const char *comma = "";
    if (a->reasoning.n || r->ask.reasoning) {
        responses_reasoning_item(r, b, true);
        comma = ",";
    }
    if (a->text.n || a->refusal.n || !a->ncalls) {
        buf_str(b, comma);
        responses_message_item(r, b, true);
        comma = ",";
    }
    for (size_t i = 0; i < a->ncalls; i++, comma = ",") {
        buf_str(b, comma);
        responses_call_item(r, b, i, true);
    }
}

/* status: in_progress, or that of the end. */
static void responses_object(Req *r, Buf *b, const char *status) {
    bool done = strcmp(status, "in_progress") != 0;
    buf_fmt(b, "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":", r->id,
            (long long)time(NULL));
    buf_jstr(b, status);
    buf_str(b, ",\"background\":false,\"error\":");
    if (!strcmp(status, "failed")) {
        buf_str(b, "{\"code\":");
        buf_jstr(b, json_is_string(r->f.error_code) ? json_string_value(r->f.error_code) : "server_error");
        buf_str(b, ",\"message\":");
        buf_jstr(b, r->f.error_message ? json_string_value(r->f.error_message) : stream_error_text);
        buf_str(b, "}");
    } else {
        buf_str(b, "null");
    }
    buf_str(b, ",\"incomplete_details\":");
    if (!strcmp(status, "incomplete")) {
        buf_str(b, "{\"reason\":");
        buf_jstr(b, finish_word(r));
        buf_str(b, "}");
    } else {
        buf_str(b, "null");
    }
    buf_str(b, ",\"instructions\":null,\"max_output_tokens\":null,\"model\":");
    put_model(r, b);
    buf_str(b, ",\"output\":[");
    if (done) responses_items(r, b);
    buf_str(b,
            "],\"parallel_tool_calls\":true,\"previous_response_id\":null,\"service_tier\":\"default\","
            "\"store\":false,\"temperature\":1.0,\"text\":{\"format\":{\"type\":\"text\"}},\"tool_choice\":"
            "\"auto\",\"tools\":[],\"top_p\":1.0,\"truncation\":\"disabled\",\"usage\":");
    if (done)
        responses_usage(r, b);
    else
        buf_str(b, "null");
    buf_str(b, ",\"user\":null,\"metadata\":{}}");
}

static const char *responses_status(const Req *r) {
    return responses_cut_short(r) ? "incomplete" : finish_word(r);
}

static void responses_plain(Req *r) { responses_object(r, &r->out.body, responses_status(r)); }

/* Opens an event in out.tmp. */
static Buf *responses_open(Req *r, const char *type) {
    buf_fmt(&r->out.tmp, "{\"type\":\"%s\",\"sequence_number\":%lld", type, (long long)r->out.events);
    return &r->out.tmp;
}

static void responses_close(Req *r, EvKind kind, const char *type) {
    buf_str(&r->out.tmp, "}");
    emit(r, kind, type);
}

/* response.created and its like. */
static void responses_state(Req *r, EvKind kind, const char *type, const char *status) {
    buf_str(responses_open(r, type), ",\"response\":");
    responses_object(r, &r->out.tmp, status);
    responses_close(r, kind, type);
}

/* Where a delta belongs: all of it but the delta. */
typedef struct ResponsesAt {
    const char *type, *item; /* item: the prefix of its id, and what follows the number */
    const char *place;       /* further fields */
    EvKind kind;
    size_t index;
    int call; /* -1: not of a call */
} ResponsesAt;

static Buf *responses_at(Req *r, const ResponsesAt *at, const char *type) {
    Buf *b = responses_open(r, type);
    buf_fmt(b, ",\"item_id\":\"%s_%s", at->item, responses_number(r));
    if (at->call >= 0) buf_fmt(b, "_%d", at->call);
    buf_fmt(b, "\",\"output_index\":%zu%s", at->index, at->place);
    return b;
}

static void responses_delta(Req *r, void *arg, const char *p, size_t n) {
    static const char noise[] = "2ajSAGIDxXxv8CE";
    const ResponsesAt *at = arg;
    Buf *b = responses_at(r, at, at->type);
    if (starts_with(at->type, "response.output_text")) buf_str(b, ",\"logprobs\":[]");
    json_t *options = json_object_get(r->root, "stream_options");
    buf_str(b, ",\"delta\":");
    buf_json(b, p, n);
    if (!json_is_false(json_object_get(options, "include_obfuscation")))
        buf_fmt(b, ",\"obfuscation\":\"%.*s\"", 15 - (int)(n % 15), noise);
    responses_close(r, at->kind, at->type);
}

/* An event that carries a whole string. */
static void responses_whole(Req *r, const ResponsesAt *at, const char *type, const char *key,
                            const Buf *text) {
    Buf *b = responses_at(r, at, type);
    if (starts_with(type, "response.output_text")) buf_str(b, ",\"logprobs\":[]");
    buf_fmt(b, ",\"%s\":", key);
    buf_json(b, buf_text(text), text->n);
    responses_close(r, at->kind, type);
}

typedef void (*ItemFn)(Req *, Buf *, bool);

static void responses_item_event(Req *r, EvKind kind, size_t index, ItemFn item, bool done) {
    const char *type = done ? "response.output_item.done" : "response.output_item.added";
    buf_fmt(responses_open(r, type), ",\"output_index\":%zu,\"item\":", index);
    item(r, &r->out.tmp, done);
    responses_close(r, kind, type);
}

static void responses_stream_thought(Req *r, size_t index) {
    const Buf *text = &r->ans.reasoning;
    ResponsesAt at = {
        "response.reasoning_summary_text.delta", "rs", ",\"summary_index\":0", EV_PRE, index, -1};
    responses_item_event(r, EV_PRE, index, responses_reasoning_item, false);
    if (text->n && summary_told(r)) {
        const char *part = "response.reasoning_summary_part.added";
        buf_str(responses_at(r, &at, part), ",\"part\":{\"type\":\"summary_text\",\"text\":\"\"}");
        responses_close(r, EV_PRE, part);
        each_chunk(r, CUT_REASONING, text->p, text->n, chunk_chars(r), responses_delta, &at);
        responses_whole(r, &at, "response.reasoning_summary_text.done", "text", text);
        part = "response.reasoning_summary_part.done";
        buf_str(responses_at(r, &at, part), ",\"part\":{\"type\":\"summary_text\",\"text\":");
        buf_json(&r->out.tmp, text->p, text->n);
        buf_str(&r->out.tmp, "}");
        responses_close(r, EV_PRE, part);
    }
    responses_item_event(r, EV_PRE, index, responses_reasoning_item, true);
}

static void responses_stream_text(Req *r, size_t index) {
    bool refusal = r->ans.refusal.n > 0;
    Buf *text = refusal ? &r->ans.refusal : &r->ans.text;
    ResponsesAt at = {refusal ? "response.refusal.delta" : "response.output_text.delta",
                      "msg",
                      ",\"content_index\":0",
                      EV_PRE,
                      index,
                      -1};
    const char *part = "response.content_part.added";
    responses_item_event(r, EV_PRE, index, responses_message_item, false);
    buf_str(responses_at(r, &at, part), ",\"part\":");
    responses_content_part(r, &r->out.tmp, "");
    responses_close(r, EV_PRE, part);
    at.kind = EV_TEXT;
    each_chunk(r, CUT_TEXT, buf_text(text), text->n, chunk_chars(r), responses_delta, &at);
    at.kind = EV_POST;
    responses_whole(r, &at, refusal ? "response.refusal.done" : "response.output_text.done",
                    refusal ? "refusal" : "text", text);
    part = "response.content_part.done";
    buf_str(responses_at(r, &at, part), ",\"part\":");
    responses_content_part(r, &r->out.tmp, NULL);
    responses_close(r, EV_POST, part);
    responses_item_event(r, EV_POST, index, responses_message_item, true);
}

static void responses_call_event(Req *r, size_t index, size_t i, bool done) {
    const char *type = done ? "response.output_item.done" : "response.output_item.added";
    buf_fmt(responses_open(r, type), ",\"output_index\":%zu,\"item\":", index);
    responses_call_item(r, &r->out.tmp, i, done);
    responses_close(r, EV_POST, type);
}

static void responses_stream_call(Req *r, size_t index, size_t i) {
    Call *c = &r->ans.calls[i];
    ResponsesAt at = {"response.function_call_arguments.delta", "fc", "", EV_POST, index, (int)i};
    responses_call_event(r, index, i, false);
    each_chunk(r, CUT_ARGS, buf_text(&c->args), c->args.n, arg_chars(r, c), responses_delta, &at);
    responses_whole(r, &at, "response.function_call_arguments.done", "arguments", &c->args);
    responses_call_event(r, index, i, true);
}

static void responses_stream_out(Req *r) {
    Answer *a = &r->ans;
    size_t index = 0;
    char type[40];
    responses_state(r, EV_PRE, "response.created", "in_progress");
    responses_state(r, EV_PRE, "response.in_progress", "in_progress");
    if (a->reasoning.n || r->ask.reasoning) responses_stream_thought(r, index++);
    if (a->text.n || a->refusal.n || !a->ncalls) responses_stream_text(r, index++);
    for (size_t i = 0; i < a->ncalls; i++) responses_stream_call(r, index++, i);
    snprintf(type, sizeof type, "response.%s", responses_status(r));
    responses_state(r, EV_TERM, type, responses_status(r));
}

static void put_responses_error(Req *r) {
    Fault *f = &r->f;
    Buf b = {0};
    const char *code = json_is_string(f->error_code) ? json_string_value(f->error_code) : "server_error";
    const char *message = f->error_message ? json_string_value(f->error_message) : stream_error_text;
    buf_fmt(&b, "{\"type\":\"error\",\"sequence_number\":%lld,", (long long)r->out.events);
    if (!f->flat) {
        buf_str(&b, "\"error\":{\"type\":");
        buf_jstr(&b, f->error_type ? json_string_value(f->error_type) : "server_error");
        buf_str(&b, ",");
    }
    buf_str(&b, "\"code\":");
    buf_jstr(&b, code);
    buf_str(&b, ",\"message\":");
    buf_jstr(&b, message);
    buf_str(&b, f->flat ? ",\"param\":null}" : ",\"param\":null}}");
    put_event(r, "error", b.p, b.n);
    b.n = 0;
    if (!f->flat) {
        buf_fmt(&b, "{\"type\":\"response.failed\",\"sequence_number\":%lld,\"response\":",
                (long long)r->out.events);
        responses_object(r, &b, "failed");
        buf_str(&b, "}");
        put_event(r, "response.failed", b.p, b.n);
    }
    buf_free(&b);
}
