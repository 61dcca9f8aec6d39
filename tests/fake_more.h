/* fake_more.h - three more ways to chat for fake_provider.c, which includes this after its own dialects.
 *
 *   POST .../api/chat      Ollama's own: a stream of JSON lines, calls without ids
 *   POST .../v2/chat       Cohere's
 *
 * And the paths of Azure (.../openai/deployments/NAME/...?api-version=DATE, .../openai/v1/...; key in api-key or
 * as a bearer token; "content_filter":true refuses as its filter does) and of Vertex AI (/v1/projects/P/
 * locations/L/publishers/google/models/M:generateContent; a bearer token), which speak the dialects of OpenAI
 * and Gemini.
 *
 * Contents: azure and vertex, ollama, cohere. */

/* ---------------------------------------------------------------- azure and vertex */

/* 2024-10-21 or 2024-12-01-preview. */
static bool version_ok(const char *v) {
    struct tm tm = {0};
    const char *end = strptime(v, "%Y-%m-%d", &tm);
    return end && (!*end || !strcmp(end, "-preview"));
}

/* .../openai/deployments/NAME/...: the name is the model. */
static bool azure_route(Req *r) {
    const char *name = strstr(r->uri, "/openai/deployments/"), *end = name ? strchr(name + 20, '/') : NULL;
    const char *version = MHD_lookup_connection_value(r->conn, MHD_GET_ARGUMENT_KIND, "api-version");
    r->azure = name || strstr(r->uri, "/azure/openai/v1/") || starts_with(r->uri, "/openai/v1/");
    if (!name) return true;
    if (!version) return refuse(r, 404, "404", "Resource not found");
    if (!version_ok(version)) return refuse(r, 404, "404", "API version not supported");
    Buf model = {0};
    if (!end || !percent_decode(name + 20, (size_t)(end - name - 20), &model) || !model.n) {
        buf_free(&model);
        return refuse(r, 404, "DeploymentNotFound", "The API deployment for this resource does not exist.");
    }
    r->model = model.p;
    return true;
}

/* /v1/projects/P/locations/L/publishers/google/models/M:verb */
static bool vertex_route(Req *r) {
    char version[12], project[100], place[60];
    const char *at = strstr(r->uri, "/projects/");
    if (!at) return true;
    while (at > r->uri && at[-1] != '/') at--;
    bool ok = sscanf(at, "%11[^/]/projects/%99[^/]/locations/%59[^/]/publishers/google/models/", version,
                     project, place) == 3 &&
              ONE_OF(version, "v1", "v1beta1") && strstr(at, "/publishers/google/models/");
    r->vertex = true;
    return ok || refuse(r, 404, NULL, "The requested URL was not found on this server.");
}

/* ---------------------------------------------------------------- ollama: requests */

static const Field ollama_fields[] = {
    {"model", T_STR | T_NEED, 0, 0},
    {"messages", T_ARR | T_NEED, 0, 0},
    {"tools", T_ARR | T_NULL, 0, 0},
    {"format", T_STR | T_OBJ | T_NULL, 0, 0},
    {"options", T_OBJ | T_NULL, 0, 0},
    {"stream", T_BOOL | T_NULL, 0, 0},
    {"think", T_BOOL | T_STR | T_NULL, 0, 0},
    {"keep_alive", T_STR | T_NUM | T_NULL, 0, 0},
    {"truncate", T_BOOL, 0, 0},
    {"shift", T_BOOL, 0, 0},
    {"logprobs", T_BOOL, 0, 0},
    {"top_logprobs", T_INT, 0, 20},
    /* the rest is ignored by the real one, so that a client does not learn of its mistake */
    {"max_tokens", T_FOREIGN, 0, 0},
    {"temperature", T_FOREIGN, 0, 0},
    {"top_p", T_FOREIGN, 0, 0},
    {"stop", T_FOREIGN, 0, 0},
    {"seed", T_FOREIGN, 0, 0},
    {"tool_choice", T_FOREIGN, 0, 0},
    {"response_format", T_FOREIGN, 0, 0},
    {"stream_options", T_FOREIGN, 0, 0},
    {"reasoning_effort", T_FOREIGN, 0, 0},
    {"system", T_FOREIGN, 0, 0},
};

static const Field ollama_options[] = {
    {"num_predict", T_INT, -2, 1e9},
    {"temperature", T_NUM, 0, 100},
    {"top_p", T_NUM, 0, 1},
    {"top_k", T_INT, 0, 1e9},
    {"min_p", T_NUM, 0, 1},
    {"typical_p", T_NUM, 0, 1},
    {"seed", T_INT, 0, 0},
    {"stop", T_ARR, 0, 0},
    {"num_ctx", T_INT, 1, 1e9},
    {"num_keep", T_INT, 0, 0},
    {"num_batch", T_INT, 1, 1e9},
    {"num_gpu", T_INT, 0, 0},
    {"main_gpu", T_INT, 0, 0},
    {"num_thread", T_INT, 0, 0},
    {"use_mmap", T_BOOL, 0, 0},
    {"repeat_last_n", T_INT, 0, 0},
    {"repeat_penalty", T_NUM, 0, 100},
    {"presence_penalty", T_NUM, -2, 2},
    {"frequency_penalty", T_NUM, -2, 2},
};

static bool ollama_images(Req *r, json_t *msg, bool user, const char *where) {
    json_t *list = json_object_get(msg, "images"), *v;
    size_t i;
    if (list && !json_is_array(list) && !json_is_null(list)) return bad(r, "%s.images: wrong type", where);
    json_array_foreach(list, i, v) {
        const char *data = json_string_value(v) ? json_string_value(v) : "";
        if (!take_image_b64(r, user ? &r->ask.images : NULL, "base64", data, strlen(data), where))
            return false;
    }
    return true;
}

/* names: of the calls that wait for a result, in their order. */
static bool ollama_calls(Req *r, json_t *calls, json_t *names, const char *where) {
    size_t i;
    json_t *c;
    json_array_foreach(calls, i, c) {
        json_t *fn = json_object_get(c, "function");
        if (!name_ok(str_of(fn, "name"), "_-.", 128)) return bad(r, "%s.tool_calls[%zu]: no name", where, i);
        if (!json_is_object(json_object_get(fn, "arguments")))
            return bad(r,
                       "json: cannot unmarshal %s into Go struct field "
                       "ToolCallFunction.messages.tool_calls.function.arguments of type "
                       "api.ToolCallFunctionArguments",
                       json_is_string(json_object_get(fn, "arguments")) ? "string" : "value");
        json_array_append(names, json_object_get(fn, "name"));
    }
    return true;
}

static bool ollama_tool(Req *r, json_t *msg, json_t *names, const char *where) {
    size_t i;
    json_t *name;
    json_array_foreach(names, i, name) if (!strcmp(json_string_value(name), str_of(msg, "tool_name"))) break;
    if (i == json_array_size(names))
        return bad(r, "%s.tool_name: '%s' is no call of the message before", where, str_of(msg, "tool_name"));
    json_array_remove(names, i);
    if (r->ask.has_results) buf_str(&r->ask.results, "; ");
    r->ask.has_results = true;
    take_text(r, &r->ask.results, json_object_get(msg, "content"));
    return true;
}

static bool ollama_message(Req *r, json_t *msg, json_t *names, size_t i) {
    static const Field f[] = {{"role", T_STR | T_NEED, 0, 0}, {"content", T_STR, 0, 0},
                              {"thinking", T_STR, 0, 0},      {"tool_calls", T_ARR | T_NULL, 0, 0},
                              {"tool_name", T_STR, 0, 0},     {"reasoning_content", T_FOREIGN, 0, 0}};
    const char *role = str_of(msg, "role");
    char where[40];
    snprintf(where, sizeof where, "messages[%zu]", i);
    if (json_is_array(json_object_get(msg, "content")))
        return bad(
            r,
            "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string");
    if (!CHECK_FIELDS(r, msg, f, where)) return false;
    if (!ONE_OF(role, "system", "user", "assistant", "tool"))
        return bad(r, "invalid role: %s, role must be one of [user, assistant, system, tool]", role);
    if (!strcmp(role, "tool")) return ollama_tool(r, msg, names, where);
    if (json_array_size(names))
        return bad(r, "%s: %zu calls have no tool message", where, json_array_size(names));
    bool user = !strcmp(role, "user");
    r->ask.results.n = 0;
    r->ask.has_results = false;
    if (user) r->ask.user.n = r->ask.images.n = 0;
    take_text(r, user ? &r->ask.user : NULL, json_object_get(msg, "content"));
    if (json_object_get(msg, "tool_calls") && strcmp(role, "assistant"))
        return bad(r, "%s.tool_calls: only of the assistant", where);
    return ollama_images(r, msg, user, where) &&
           ollama_calls(r, json_object_get(msg, "tool_calls"), names, where);
}

static bool ollama_messages(Req *r) {
    json_t *list = json_object_get(r->root, "messages"), *msg, *names = json_array();
    size_t i;
    bool ok = json_array_size(list) || bad(r, "messages: empty, which would only load the model");
    json_array_foreach(list, i, msg) ok = ok && ollama_message(r, msg, names, i);
    if (ok && json_array_size(names)) ok = bad(r, "messages: calls at the end have no tool message");
    json_decref(names);
    return ok;
}

static bool ollama_format(Req *r) {
    json_t *format = json_object_get(r->root, "format");
    const char *word = json_string_value(format);
    if (word && *word && strcmp(word, "json"))
        return bad(r, "invalid format: \"%s\"; expected \"json\" or a valid JSON Schema object", word);
    r->ask.json_object = word && *word;
    r->ask.schema = json_is_object(format) ? format : NULL;
    return !r->ask.schema || check_schema(r, r->ask.schema, "format");
}

static bool ollama_think(Req *r) {
    json_t *think = json_object_get(r->root, "think");
    const char *word = json_string_value(think);
    if (word && !ONE_OF(word, "low", "medium", "high"))
        return bad(r, "invalid think value: \"%s\" (must be \"high\", \"medium\", \"low\", true, or false)",
                   word);
    r->ask.reasoning = word || json_is_true(think);
    return true;
}

static bool ollama_validate(Req *r) {
    json_t *options = json_object_get(r->root, "options"), *max = json_object_get(options, "num_predict");
    if (!CHECK_FIELDS(r, r->root, ollama_fields, "")) return false;
    if (json_is_object(options) && !ONLY_FIELDS(r, options, ollama_options, "options")) return false;
    r->ask.stream = !json_is_false(json_object_get(r->root, "stream")); /* unless told otherwise */
    r->ask.usage_asked = true;
    r->ask.max_tokens = json_integer_value(max) > 0 ? json_integer_value(max) : -1;
    r->ask.stop = json_object_get(options, "stop");
    return check_strings(r, r->ask.stop, 1000, "options.stop") && ollama_think(r) && ollama_format(r) &&
           openai_tools(r) && ollama_messages(r);
}

/* Needs no key; one that is sent must be good. */
static bool ollama_auth(Req *r) {
    const char *a = header(r, "authorization");
    if (!g.key && !*a) return true;
    return (starts_with(a, "Bearer ") && key_ok(a + 7)) || refuse(r, 401, NULL, "unauthorized");
}

static const char *ollama_key(Req *r) {
    const char *a = header(r, "authorization");
    return starts_with(a, "Bearer ") ? a + 7 : "";
}

/* ---------------------------------------------------------------- ollama: replies */

static void put_line(Req *r, const char *event, const char *data, size_t n) {
    (void)event;
    buf_add(&r->out.body, data, n);
    buf_str(&r->out.body, "\n");
}

static void ollama_error(Req *r, Buf *b, unsigned status, const char *type, const char *message) {
    (void)r, (void)status, (void)type;
    buf_str(b, "{\"error\":");
    buf_jstr(b, message);
    buf_str(b, "}");
}

/* Up to the fields of the message. */
static void ollama_open(Req *r, Buf *b) {
    buf_str(b, "{\"model\":");
    put_model(r, b);
    buf_str(b, ",\"created_at\":\"2026-11-22T19:22:45.499127Z\",\"message\":{\"role\":\"assistant\"");
}

/* The last object: why, and the statistics. */
static void ollama_done(Req *r, Buf *b) {
    Answer *a = &r->ans;
    buf_str(b, "},\"done\":true,\"done_reason\":");
    buf_jstr(b, finish_word(r));
    buf_str(b, ",\"total_duration\":4883583458,\"load_duration\":1334875");
    if (!r->f.usage_none)
        buf_fmt(b,
                ",\"prompt_eval_count\":%lld,\"prompt_eval_duration\":342546000,\"eval_count\":%lld,"
                "\"eval_duration\":4535599000",
                (long long)a->in, (long long)a->out);
    buf_str(b, "}");
}

static void ollama_call_json(Buf *b, const Call *c) {
    json_t *args = json_loadb(buf_text(&c->args), c->args.n, 0, NULL);
    buf_str(b, "{\"function\":{\"name\":");
    buf_jstr(b, c->name);
    buf_str(b, ",\"arguments\":");
    if (args)
        buf_cat(b, &c->args);
    else
        buf_json(b, buf_text(&c->args), c->args.n); /* broken on purpose */
    buf_str(b, "}}");
    json_decref(args);
}

static void ollama_plain(Req *r) {
    Buf *b = &r->out.body;
    Answer *a = &r->ans;
    ollama_open(r, b);
    buf_str(b, ",\"content\":");
    if (a->refusal.n)
        buf_json(b, a->refusal.p, a->refusal.n);
    else
        put_plain_text(r);
    if (a->reasoning.n) {
        buf_str(b, ",\"thinking\":");
        buf_json(b, a->reasoning.p, a->reasoning.n);
    }
    for (size_t i = 0; i < a->ncalls; i++) {
        buf_str(b, i ? "," : ",\"tool_calls\":[");
        ollama_call_json(b, &a->calls[i]);
    }
    if (a->ncalls) buf_str(b, "]");
    ollama_done(r, b);
}

static void ollama_delta(Req *r, void *arg, const char *p, size_t n) {
    Delta *d = arg;
    ollama_open(r, &r->out.tmp);
    buf_str(&r->out.tmp, d->key);
    buf_json(&r->out.tmp, p, n);
    buf_str(&r->out.tmp, "},\"done\":false}");
    emit(r, d->kind, NULL);
}

static void ollama_stream_out(Req *r) {
    Answer *a = &r->ans;
    Buf *text = a->refusal.n ? &a->refusal : &a->text;
    Delta d = {NULL, ",\"content\":\"\",\"thinking\":", EV_PRE, 0};
    each_chunk(r, CUT_REASONING, buf_text(&a->reasoning), a->reasoning.n, chunk_chars(r), ollama_delta, &d);
    d.kind = EV_TEXT;
    d.key = ",\"content\":";
    each_chunk(r, CUT_TEXT, buf_text(text), text->n, chunk_chars(r), ollama_delta, &d);
    for (size_t i = 0; i < a->ncalls; i++) {
        if (r->out.left[CUT_ARGS] >= 0) cut_here(r); /* calls come whole here */
        ollama_open(r, &r->out.tmp);
        buf_str(&r->out.tmp, ",\"content\":\"\",\"tool_calls\":[");
        ollama_call_json(&r->out.tmp, &a->calls[i]);
        buf_str(&r->out.tmp, "]},\"done\":false}");
        emit(r, EV_POST, NULL);
    }
    ollama_open(r, &r->out.tmp);
    buf_str(&r->out.tmp, ",\"content\":\"\"");
    ollama_done(r, &r->out.tmp);
    emit(r, EV_TERM, NULL);
}

/* ---------------------------------------------------------------- cohere: requests */

static const Field cohere_fields[] = {
    {"model", T_STR | T_NEED, 0, 0},
    {"messages", T_ARR | T_NEED, 0, 0},
    {"stream", T_BOOL, 0, 0},
    {"tools", T_ARR, 0, 0},
    {"strict_tools", T_BOOL, 0, 0},
    {"documents", T_ARR, 0, 0},
    {"citation_options", T_OBJ, 0, 0},
    {"response_format", T_OBJ, 0, 0},
    {"safety_mode", T_STR, 0, 0},
    {"max_tokens", T_INT, 1, 1e9},
    {"stop_sequences", T_ARR, 0, 0},
    {"temperature", T_NUM, 0, 1},
    {"seed", T_INT, 0, 1.8446744073709552e19},
    {"frequency_penalty", T_NUM, 0, 1},
    {"presence_penalty", T_NUM, 0, 1},
    {"k", T_INT, 0, 500},
    {"p", T_NUM, 0.01, 0.99},
    {"logprobs", T_BOOL, 0, 0},
    {"tool_choice", T_STR, 0, 0},
    {"thinking", T_OBJ, 0, 0},
    {"priority", T_INT, 0, 999},
};

static bool cohere_part(Req *r, json_t *part, const char *role, Buf *text, const char *where) {
    const char *type = str_of(part, "type");
    if (!strcmp(type, "text")) return responses_text(r, part, "text", text, where);
    if (!strcmp(type, "image_url") && !strcmp(role, "user"))
        return openai_image(r, part, &r->ask.images, where);
    if (!strcmp(type, "thinking") && !strcmp(role, "assistant"))
        return responses_text(r, part, "thinking", NULL, where);
    if (!strcmp(type, "document") && !strcmp(role, "tool")) {
        json_t *data = json_object_get(json_object_get(part, "document"), "data");
        if (!json_is_object(data) && !json_is_string(data)) return bad(r, "%s.document.data: needed", where);
        if (json_is_string(data))
            take_text(r, text, data);
        else
            buf_dump(text, data);
        return true;
    }
    return bad(r, "invalid type of content '%s' for role '%s' (%s)", type, role, where);
}

static bool cohere_content(Req *r, json_t *c, const char *role, Buf *text, const char *where) {
    json_t *part;
    size_t i;
    if (json_is_string(c)) {
        take_text(r, text, c);
        return json_string_length(c) || bad(r, "%s.content: must not be empty", where);
    }
    if (!json_array_size(c)) return bad(r, "%s.content: must be a string or a nonempty array", where);
    json_array_foreach(c, i, part) if (!cohere_part(r, part, role, text, where)) return false;
    return true;
}

static bool cohere_message(Req *r, json_t *msg, json_t *ids, size_t i) {
    static const Field f[] = {{"role", T_STR | T_NEED, 0, 0}, {"content", T_STR | T_ARR | T_NULL, 0, 0},
                              {"tool_calls", T_ARR, 0, 0},    {"tool_plan", T_STR, 0, 0},
                              {"tool_call_id", T_STR, 0, 0},  {"citations", T_ARR, 0, 0}};
    const char *role = str_of(msg, "role");
    json_t *c = json_object_get(msg, "content"), *calls = json_object_get(msg, "tool_calls");
    char where[40];
    snprintf(where, sizeof where, "messages[%zu]", i);
    if (!ONLY_FIELDS(r, msg, f, where)) return false;
    if (!ONE_OF(role, "system", "user", "assistant", "tool"))
        return bad(r, "%s.role: invalid '%s'", where, role);
    if (!strcmp(role, "tool")) {
        if (!answer_call(r, ids, str_of(msg, "tool_call_id"), where)) return false;
        if (r->ask.has_results) buf_str(&r->ask.results, "; ");
        r->ask.has_results = true;
        return cohere_content(r, c, role, &r->ask.results, where);
    }
    if (json_object_size(ids)) return bad(r, "%s: a tool call before it has no tool message", where);
    bool user = !strcmp(role, "user");
    r->ask.results.n = 0;
    r->ask.has_results = false;
    if (user) r->ask.user.n = r->ask.images.n = 0;
    if ((calls || json_object_get(msg, "tool_plan")) && strcmp(role, "assistant"))
        return bad(r, "%s: tool_calls and tool_plan are the assistant's", where);
    if (calls && !openai_calls(r, calls, ids, where)) return false;
    if (calls && (!c || json_is_null(c))) return true;
    if (calls && (json_is_string(c) || !strcmp(str_of(last_of(c, 0), "type"), "text")))
        return bad(
            r,
            "text content is not allowed when tool_calls are provided. If you wish to pass a tool plan, "
            "either pass thinking content (with thinking enabled) or use 'tool_plan': '%s.content[0]'",
            where);
    return cohere_content(r, c, role, user ? &r->ask.user : NULL, where);
}

static bool cohere_messages(Req *r) {
    json_t *list = json_object_get(r->root, "messages"), *msg, *ids = json_object();
    size_t i;
    bool ok = json_array_size(list) || bad(r, "invalid request: messages must not be empty");
    json_array_foreach(list, i, msg) ok = ok && cohere_message(r, msg, ids, i);
    if (ok && json_object_size(ids))
        ok = bad(r, "invalid request: tool calls at the end have no tool message");
    if (ok && !ONE_OF(str_of(last_of(list, 0), "role"), "user", "tool"))
        ok = bad(r, "invalid request: the last message must have the role user or tool");
    json_decref(ids);
    return ok;
}

/* One tool cannot be named, and JSON and tools exclude each other. */
static bool cohere_format(Req *r) {
    static const Field f[] = {{"type", T_STR | T_NEED, 0, 0}, {"json_schema", T_OBJ, 0, 0}};
    json_t *rf = json_object_get(r->root, "response_format");
    const char *type = str_of(rf, "type"), *choice = str_of(r->root, "tool_choice");
    if (*choice && !ONE_OF(choice, "REQUIRED", "NONE"))
        return bad(r, "tool_choice: must be REQUIRED or NONE");
    if (*choice && !r->ask.tools) return bad(r, "tool_choice: only together with tools");
    r->ask.no_calls = !strcmp(choice, "NONE");
    if (!strcmp(choice, "REQUIRED")) r->ask.forced = json_array_get(r->ask.tools, 0);
    if (!rf || !strcmp(type, "text")) return true;
    if (!ONLY_FIELDS(r, rf, f, "response_format")) return false;
    if (strcmp(type, "json_object")) return bad(r, "response_format.type: must be text or json_object");
    if (r->ask.tools || json_object_get(r->root, "documents"))
        return bad(r, "response_format: not together with tools or documents");
    r->ask.schema = json_object_get(rf, "json_schema");
    r->ask.json_object = !r->ask.schema;
    return !r->ask.schema || check_params(r, r->ask.schema, "response_format.json_schema");
}

static bool cohere_think(Req *r) {
    static const Field f[] = {{"type", T_STR | T_NEED, 0, 0}, {"token_budget", T_INT, 0, 1e9}};
    json_t *t = json_object_get(r->root, "thinking");
    if (!t) return true;
    if (!ONLY_FIELDS(r, t, f, "thinking")) return false;
    if (!ONE_OF(str_of(t, "type"), "enabled", "disabled"))
        return bad(r, "thinking.type: enabled or disabled");
    r->ask.reasoning = !strcmp(str_of(t, "type"), "enabled");
    return true;
}

static bool cohere_validate(Req *r) {
    json_t *max = json_object_get(r->root, "max_tokens");
    const char *mode = str_of(r->root, "safety_mode");
    if (!ONLY_FIELDS(r, r->root, cohere_fields, "")) return false;
    if (*mode && !ONE_OF(mode, "CONTEXTUAL", "STRICT", "OFF", "NONE")) return bad(r, "safety_mode: invalid");
    r->ask.stream = json_is_true(json_object_get(r->root, "stream"));
    r->ask.usage_asked = true;
    r->ask.max_tokens = max ? json_integer_value(max) : -1;
    r->ask.stop = json_object_get(r->root, "stop_sequences");
    return check_strings(r, r->ask.stop, 5, "stop_sequences") && openai_tools(r) && cohere_format(r) &&
           cohere_think(r) && cohere_messages(r);
}

static bool cohere_auth(Req *r) {
    const char *a = header(r, "authorization");
    if (!*a) return refuse(r, 401, NULL, "no api key supplied");
    return (starts_with(a, "Bearer ") && key_ok(a + 7)) || refuse(r, 401, NULL, "invalid api token");
}

/* ---------------------------------------------------------------- cohere: replies */

static void cohere_error(Req *r, Buf *b, unsigned status, const char *type, const char *message) {
    (void)status, (void)type;
    buf_fmt(b, "{\"id\":\"%s\",\"message\":", r->id);
    buf_jstr(b, message);
    buf_str(b, "}");
}

static void cohere_usage(Req *r, Buf *b) {
    long long in = r->ans.in, out = r->ans.out;
    if (r->f.usage_none) return;
    buf_fmt(b,
            ",\"usage\":{\"billed_units\":{\"input_tokens\":%lld,\"output_tokens\":%lld},\"tokens\":"
            "{\"input_tokens\":%lld,\"output_tokens\":%lld},\"cached_tokens\":%lld}",
            in, out, in, out, (long long)r->ans.cached);
}

/* What is said before calls is the plan. */
static bool cohere_plans(const Req *r) { return r->ans.ncalls && r->ans.text.n; }

static void cohere_plain(Req *r) {
    Buf *b = &r->out.body;
    Answer *a = &r->ans;
    buf_fmt(b, "{\"id\":\"%s\",\"message\":{\"role\":\"assistant\"", r->id);
    if (cohere_plans(r)) {
        buf_str(b, ",\"tool_plan\":");
        put_plain_text(r);
    }
    for (size_t i = 0; i < a->ncalls; i++) {
        buf_str(b, i ? "," : ",\"tool_calls\":[");
        openai_call_json(b, &a->calls[i]);
    }
    buf_str(b, a->ncalls ? "]" : "");
    if (a->reasoning.n || !a->ncalls) buf_str(b, ",\"content\":[");
    if (a->reasoning.n) {
        buf_str(b, "{\"type\":\"thinking\",\"thinking\":");
        buf_json(b, a->reasoning.p, a->reasoning.n);
        buf_str(b, a->ncalls ? "}" : "},");
    }
    if (!a->ncalls) {
        buf_str(b, "{\"type\":\"text\",\"text\":");
        if (a->refusal.n)
            buf_json(b, a->refusal.p, a->refusal.n);
        else
            put_plain_text(r);
        buf_str(b, "}");
    }
    if (a->reasoning.n || !a->ncalls) buf_str(b, "]");
    buf_str(b, "},\"finish_reason\":");
    buf_jstr(b, finish_word(r));
    cohere_usage(r, b);
    buf_str(b, "}");
}

/* An event without a text of its own; inner: the fields after type and index. */
static void cohere_event(Req *r, EvKind kind, const char *type, size_t index, const char *inner) {
    buf_fmt(&r->out.tmp, "{\"type\":\"%s\",\"index\":%zu%s}", type, index, inner);
    emit(r, kind, type);
}

/* key: the name of the event, a bar, and where in the message the text goes. */
static void cohere_delta(Req *r, void *arg, const char *p, size_t n) {
    Delta *d = arg;
    const char *bar = strchr(d->key, '|');
    char type[40];
    snprintf(type, sizeof type, "%.*s", (int)(bar - d->key), d->key);
    buf_fmt(&r->out.tmp, "{\"type\":\"%s\"", type);
    if (strcmp(type, "tool-plan-delta")) buf_fmt(&r->out.tmp, ",\"index\":%zu", d->index);
    buf_fmt(&r->out.tmp, ",\"delta\":{\"message\":{%s", bar + 1);
    buf_json(&r->out.tmp, p, n);
    for (const char *c = bar; *c; c++)
        if (*c == '{') buf_str(&r->out.tmp, "}");
    buf_str(&r->out.tmp, "}}}");
    emit(r, d->kind, type);
}

static void cohere_stream_block(Req *r, bool thinks, size_t index, const Buf *text) {
    EvKind kind = thinks ? EV_PRE : EV_TEXT;
    Delta d = {NULL,
               thinks ? "content-delta|\"content\":{\"thinking\":" : "content-delta|\"content\":{\"text\":",
               kind, index};
    cohere_event(r, EV_PRE, "content-start", index,
                 thinks ? ",\"delta\":{\"message\":{\"content\":{\"type\":\"thinking\",\"thinking\":\"\"}}}"
                        : ",\"delta\":{\"message\":{\"content\":{\"type\":\"text\",\"text\":\"\"}}}");
    each_chunk(r, thinks ? CUT_REASONING : CUT_TEXT, buf_text(text), text->n, chunk_chars(r), cohere_delta,
               &d);
    cohere_event(r, thinks ? EV_PRE : EV_POST, "content-end", index, "");
}

static void cohere_stream_call(Req *r, size_t index) {
    Call *c = &r->ans.calls[index];
    Delta d = {NULL, "tool-call-delta|\"tool_calls\":{\"function\":{\"arguments\":", EV_POST, index};
    buf_fmt(
        &r->out.tmp,
        "{\"type\":\"tool-call-start\",\"index\":%zu,\"delta\":{\"message\":{\"tool_calls\":{\"id\":\"%s\","
        "\"type\":\"function\",\"function\":{\"name\":",
        index, c->id);
    buf_jstr(&r->out.tmp, c->name);
    buf_str(&r->out.tmp, ",\"arguments\":\"\"}}}}}");
    emit(r, EV_POST, "tool-call-start");
    each_chunk(r, CUT_ARGS, buf_text(&c->args), c->args.n, arg_chars(r, c), cohere_delta, &d);
    cohere_event(r, EV_POST, "tool-call-end", index, "");
}

static void cohere_stream_out(Req *r) {
    Answer *a = &r->ans;
    size_t index = 0;
    buf_fmt(&r->out.tmp,
            "{\"id\":\"%s\",\"type\":\"message-start\",\"delta\":{\"message\":{\"role\":\"assistant\","
            "\"content\":[],"
            "\"tool_plan\":\"\",\"tool_calls\":[],\"citations\":[]}}}",
            r->id);
    emit(r, EV_PRE, "message-start");
    if (a->reasoning.n) cohere_stream_block(r, true, index++, &a->reasoning);
    Delta plan = {NULL, "tool-plan-delta|\"tool_plan\":", EV_TEXT, 0};
    if (cohere_plans(r))
        each_chunk(r, CUT_TEXT, a->text.p, a->text.n, chunk_chars(r), cohere_delta, &plan);
    else if (!a->ncalls)
        cohere_stream_block(r, false, index, a->refusal.n ? &a->refusal : &a->text);
    for (size_t i = 0; i < a->ncalls; i++) cohere_stream_call(r, i);
    buf_str(&r->out.tmp, "{\"type\":\"message-end\",\"delta\":{\"finish_reason\":");
    buf_jstr(&r->out.tmp, finish_word(r));
    cohere_usage(r, &r->out.tmp);
    buf_str(&r->out.tmp, "}}");
    emit(r, EV_TERM, "message-end");
    buf_str(&r->out.tmp, "[DONE]");
    emit(r, EV_TERM, NULL);
}

/* It ends as a message does, with an error for the reason. */
static void put_cohere_error(Req *r) {
    Buf b = {0};
    buf_str(&b, "{\"type\":\"message-end\",\"delta\":{\"error\":");
    buf_jstr(&b, r->f.error_message ? json_string_value(r->f.error_message) : stream_error_text);
    buf_str(&b, ",\"finish_reason\":\"ERROR\"}}");
    put_event(r, "message-end", b.p, b.n);
    buf_free(&b);
}
