/* fake_batch.h - batches for fake_provider.c, which includes this before it serves requests.
 *
 *   OpenAI:    POST /v1/files (multipart, purpose=batch), GET and DELETE /v1/files/ID, GET /v1/files/ID/content,
 *              POST /v1/batches, GET /v1/batches and /v1/batches/ID, POST /v1/batches/ID/cancel
 *   Anthropic: POST and GET /v1/messages/batches, GET and DELETE /v1/messages/batches/ID,
 *              GET /v1/messages/batches/ID/results, POST /v1/messages/batches/ID/cancel
 *
 * Every line is a request as any other: validated, steered by rules and model names, answered, and on the bills;
 * that happens when the batch ends. It ends with the Nth look at it (2) and results come in an order of their
 * own. A file or batch belongs to the key that made it. For rules these requests have the models "files" and
 * "batches".
 *
 * POST /_control {"batch":{"polls":N,"errors":SHARE,"expires":SHARE,"seed":N}}: how many looks until the end, and
 * which share of the lines fails with a server error or is not reached in time. A batch that is cancelled has
 * answered every second line.
 *
 * Contents: the store, lines, openai, anthropic, routes. */

/* ---------------------------------------------------------------- batches: the store */

typedef struct Stored {
    char *id, *key, *name; /* name: of a file */
    Buf bytes;
    bool deleted;
} Stored;

typedef struct Line {
    char *custom_id;
    json_t *body;
    Buf answer; /* as JSON; "" when there is none */
    unsigned status;
    char end; /* 's'ucceeded, 'e'rrored, 'c'anceled, e'x'pired */
} Line;

typedef struct Batch {
    char *id, *key, *input, *endpoint, *errors; /* errors: why it failed as a whole, JSON */
    char *output_id, *error_id;
    json_t *metadata;
    int dialect;
    Line *lines;
    size_t count;
    json_int_t polls, looks; /* looks at it that are left, and that there were to be */
    bool cancelling, ended, failed, deleted;
    time_t made, done;
} Batch;

static struct {
    pthread_mutex_t lock; /* taken before g.lock */
    Stored *files;
    Batch **list;
    size_t nfiles, count;
    json_int_t polls;
    double errors, expires;
    uint64_t seed;
} batches = {.lock = PTHREAD_MUTEX_INITIALIZER, .polls = 2};

static void free_batch(Batch *b) {
    for (size_t i = 0; i < b->count; i++) {
        free(b->lines[i].custom_id);
        json_decref(b->lines[i].body);
        buf_free(&b->lines[i].answer);
    }
    char *all[] = {b->id, b->key, b->input, b->endpoint, b->errors, b->output_id, b->error_id};
    for (size_t i = 0; i < COUNT(all); i++) free(all[i]);
    json_decref(b->metadata);
    free(b->lines);
    free(b);
}

static void batch_clear(void) {
    pthread_mutex_lock(&batches.lock);
    for (size_t i = 0; i < batches.nfiles; i++) {
        free(batches.files[i].id);
        free(batches.files[i].key);
        free(batches.files[i].name);
        buf_free(&batches.files[i].bytes);
    }
    for (size_t i = 0; i < batches.count; i++) free_batch(batches.list[i]);
    free(batches.files);
    free(batches.list);
    batches.files = NULL;
    batches.list = NULL;
    batches.nfiles = batches.count = 0;
    batches.polls = 2;
    batches.errors = batches.expires = 0;
    batches.seed = 0;
    pthread_mutex_unlock(&batches.lock);
}

static bool batch_control(json_t *obj, Buf *err) {
    json_t *polls = json_object_get(obj, "polls"), *errors = json_object_get(obj, "errors"),
           *expires = json_object_get(obj, "expires"), *seed = json_object_get(obj, "seed"), *v;
    const char *name;
    bool ok = json_is_object(obj) && (!polls || json_integer_value(polls) > 0) &&
              (!errors || json_is_number(errors)) && (!expires || json_is_number(expires)) &&
              (!seed || json_is_integer(seed));
    json_object_foreach(obj, name, v) ok = ok && (v == polls || v == errors || v == expires || v == seed);
    if (!ok) return buf_str(err, "batch: must be {polls, errors, expires, seed}"), false;
    pthread_mutex_lock(&batches.lock);
    if (polls) batches.polls = json_integer_value(polls);
    if (errors) batches.errors = json_number_value(errors);
    if (expires) batches.expires = json_number_value(expires);
    if (seed) batches.seed = (uint64_t)json_integer_value(seed);
    pthread_mutex_unlock(&batches.lock);
    return true;
}

static char *new_id(const char *prefix) {
    char id[60];
    put_id(id, sizeof id, prefix, 20);
    return must(strdup(id));
}

/* Takes the bytes. */
static Stored *store_file(const char *key, const char *name, Buf *bytes) {
    batches.files = must(realloc(batches.files, (batches.nfiles + 1) * sizeof *batches.files));
    Stored *f = &batches.files[batches.nfiles++];
    *f = (Stored){new_id("file-"), must(strdup(key)), must(strdup(name)), *bytes, false};
    *bytes = (Buf){0};
    return f;
}

static Stored *find_file(const char *key, const char *id) {
    for (size_t i = 0; i < batches.nfiles; i++) {
        Stored *f = &batches.files[i];
        if (!f->deleted && !strcmp(f->id, id) && !strcmp(f->key, key)) return f;
    }
    return NULL;
}

static Batch *find_batch(const Req *r, const char *key, const char *id) {
    for (size_t i = 0; i < batches.count; i++) {
        Batch *b = batches.list[i];
        if (!b->deleted && b->dialect == r->dialect && !strcmp(b->id, id) && !strcmp(b->key, key)) return b;
    }
    return NULL;
}

static Batch *add_batch(const Req *r, const char *prefix, const char *key) {
    Batch *b = must(calloc(1, sizeof *b));
    b->id = new_id(prefix);
    b->key = must(strdup(key));
    b->dialect = r->dialect;
    b->polls = b->looks = batches.polls;
    b->made = time(NULL);
    batches.list = must(realloc(batches.list, (batches.count + 1) * sizeof *batches.list));
    batches.list[batches.count++] = b;
    return b;
}

static void add_line(Batch *b, const char *custom_id, json_t *body) {
    if (!(b->count & (b->count - 1)))
        b->lines = must(realloc(b->lines, (b->count ? 2 * b->count : 1) * sizeof *b->lines));
    b->lines[b->count++] = (Line){must(strdup(custom_id)), json_incref(body), {0}, 0, 0};
}

/* ---------------------------------------------------------------- batches: lines */

static void free_request(Req *r);

/* What the request of a line would have been answered, had it come by itself. */
static void answer_line(const Batch *b, Line *l) {
    Req *r = must(calloc(1, sizeof *r));
    r->lane = -1;
    r->vendor = "";
    r->dialect = b->dialect == ANTHROPIC                ? ANTHROPIC
                 : ends_with(b->endpoint, "/responses") ? RESPONSES
                                                        : OPENAI;
    if (b->dialect == OPENAI && ends_with(b->endpoint, "/embeddings")) r->embeds = &embed_kinds[EMBED_OPENAI];
    r->uri = must(strdup(b->dialect == ANTHROPIC ? "/v1/messages" : b->endpoint));
    r->method = must(strdup("POST"));
    r->root = json_incref(l->body);
    r->model = must(strdup(str_of(l->body, "model")));
    r->label = r->model;
    fault_init(&r->f);
    put_id(r->id, sizeof r->id, own(r)->id, 1);
    bool ok = *r->model || bad(r, "model: field required");
    ok = ok && model_fault(r) &&
         (r->embeds ? r->embeds->validate(r) : own(r)->validate(r) && find_continuation(r));
    if (ok && r->ask.stream) ok = bad(r, "stream: not in a batch");
    lock();
    if (ok && !r->f.root) fault_from_rules(r);
    unlock();
    if (ok && !r->embeds) fault_from_prompt(r);
    choose_body(r);
    json_t *whole = json_loadb(buf_text(&r->out.body), r->out.body.n, 0, NULL);
    l->status = whole ? r->out.status : 500;
    if (whole)
        buf_dump(&l->answer, whole);
    else
        error_body(r, &l->answer, 500, NULL);
    l->end = l->status < 300 ? 's' : 'e';
    json_decref(whole);
    free_request(r);
}

/* A draw for a line, of [0, 1). */
static double line_draw(const Line *l, uint64_t salt) {
    uint64_t x = mix64(hash32(l->custom_id, strlen(l->custom_id)) + mix64(batches.seed + salt));
    return (double)(x >> 11) * 0x1p-53;
}

static void end_line(const Batch *b, Line *l, size_t i) {
    static const char openai[] =
        "{\"error\":{\"message\":\"The server had an error.\",\"type\":\"server_error\","
        "\"param\":null,\"code\":null}}",
                      anthropic[] =
                          "{\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"Internal "
                          "server error\"}}";
    if (b->cancelling && i % 2) {
        l->end = 'c';
    } else if (line_draw(l, 1) < batches.expires) {
        l->end = 'x';
    } else if (line_draw(l, 2) < batches.errors) {
        l->end = 'e';
        l->status = 500;
        buf_str(&l->answer, b->dialect == OPENAI ? openai : anthropic);
    } else {
        answer_line(b, l);
    }
}

static int compare_lines(const void *a, const void *b) {
    const Line *x = a, *y = b;
    uint32_t h = hash32(x->custom_id, strlen(x->custom_id)), k = hash32(y->custom_id, strlen(y->custom_id));
    return h < k ? -1 : h > k;
}

static size_t count_ends(const Batch *b, char end) {
    size_t n = 0;
    for (size_t i = 0; i < b->count; i++) n += b->lines[i].end == end;
    return n;
}

/* One look at the batch. True when it has ended just now. */
static bool poll_batch(Batch *b) {
    if (b->ended) return false;
    if (b->polls > 0) b->polls--;
    if (b->polls > 0 && !b->cancelling) return false;
    for (size_t i = 0; i < b->count && !b->failed; i++) end_line(b, &b->lines[i], i);
    if (b->count) qsort(b->lines, b->count, sizeof *b->lines, compare_lines);
    b->done = time(NULL);
    return b->ended = true;
}

static bool no_such(Req *r, const char *what) {
    r->out.status = 404;
    error_body(r, &r->out.body, 404, what);
    return false;
}

/* Fails the request of a batch with what bad() noted. */
static void serve_error(Req *r) {
    r->out.status = r->err_status;
    error_body(r, &r->out.body, r->err_status, r->err.p);
}

/* ---------------------------------------------------------------- batches: openai */

static void put_file(Buf *b, const Stored *f) {
    buf_fmt(b, "{\"object\":\"file\",\"id\":\"%s\",\"purpose\":\"%s\",\"filename\":", f->id,
            starts_with(f->name, "batch_") ? "batch_output" : "batch");
    buf_jstr(b, f->name);
    buf_fmt(b,
            ",\"bytes\":%zu,\"created_at\":%lld,\"expires_at\":null,\"status\":\"processed\",\"status_"
            "details\":null}",
            f->bytes.n, (long long)time(NULL));
}

/* The parts of a form. */
typedef struct Form {
    char purpose[40], name[200];
    const char *file;
    size_t size;
} Form;

static bool form_part(Req *r, Form *form, const char *head, size_t nhead, const char *data, size_t n) {
    char text[1000], *name, *file;
    snprintf(text, sizeof text, "%.*s", (int)(nhead < 900 ? nhead : 900), head);
    if (!strcasestr(text, "Content-Disposition: form-data"))
        return bad(r, "multipart: a part without its name");
    name = strstr(text, " name=\"");
    file = strstr(text, "filename=\"");
    if (!name) return bad(r, "multipart: a part without its name");
    name += 7;
    name[strcspn(name, "\"")] = 0;
    if (!strcmp(name, "purpose"))
        return snprintf(form->purpose, sizeof form->purpose, "%.*s", (int)n, data) >= 0;
    if (starts_with(name, "expires_after")) return true;
    if (strcmp(name, "file") || !file)
        return bad(r, "multipart: unknown part '%s', or a file without its name", name);
    file += 10;
    file[strcspn(file, "\"")] = 0;
    snprintf(form->name, sizeof form->name, "%s", file);
    form->file = data;
    form->size = n;
    return true;
}

static bool parse_form(Req *r, Form *form) {
    const char *type = header(r, "content-type"), *mark = strstr(type, "boundary=");
    char line[120];
    memset(form, 0, sizeof *form);
    if (strncasecmp(type, "multipart/form-data", 19) || !mark)
        return refuse(r, 415, NULL, "Content-Type: must be multipart/form-data with a boundary");
    mark += 9;
    if (*mark == '"') mark++;
    int width = snprintf(line, sizeof line, "\r\n--%.*s", (int)strcspn(mark, "\";"), mark);
    const char *p = buf_text(&r->body), *end = p + r->body.n;
    if (r->body.n < (size_t)width || memcmp(p, line + 2, (size_t)width - 2))
        return bad(r, "multipart: no boundary");
    p += width - 2;
    while (end - p >= 2 && !memcmp(p, "\r\n", 2)) {
        const char *head = p + 2, *body = memmem(head, (size_t)(end - head), "\r\n\r\n", 4);
        const char *next = body ? memmem(body + 4, (size_t)(end - body - 4), line, (size_t)width) : NULL;
        if (!next) return bad(r, "multipart: a part does not end");
        if (!form_part(r, form, head, (size_t)(body - head), body + 4, (size_t)(next - body - 4)))
            return false;
        p = next + width;
    }
    return (end - p >= 2 && !memcmp(p, "--", 2)) || bad(r, "multipart: it does not end");
}

static void file_upload(Req *r) {
    Form form;
    Buf copy = {0};
    bool ok = parse_form(r, &form) &&
              (!strcmp(form.purpose, "batch") ||
               bad(r, "'%s' is not one of ['batch'] - 'purpose'", form.purpose)) &&
              (form.file || bad(r, "'file' is a required property")) &&
              (ends_with(form.name, ".jsonl") ||
               bad(r, "Invalid file format for Batch API. Must be .jsonl, not '%s'", form.name)) &&
              (form.size || bad(r, "The file is empty"));
    if (!ok) return serve_error(r);
    buf_add(&copy, form.file, form.size);
    pthread_mutex_lock(&batches.lock);
    put_file(&r->out.body, store_file(own(r)->key(r), form.name, &copy));
    pthread_mutex_unlock(&batches.lock);
}

static void file_one(Req *r) {
    bool content = ends_with(r->item, "/content");
    pthread_mutex_lock(&batches.lock);
    if (content) r->item[strlen(r->item) - 8] = 0;
    Stored *f = find_file(own(r)->key(r), r->item);
    if (!f)
        no_such(r, "No such File object");
    else if (!strcmp(r->method, "DELETE")) {
        f->deleted = true;
        buf_fmt(&r->out.body, "{\"id\":\"%s\",\"object\":\"file\",\"deleted\":true}", f->id);
    } else if (content) {
        set_header(r, "Content-Type", "application/octet-stream");
        buf_cat(&r->out.body, &f->bytes);
    } else {
        put_file(&r->out.body, f);
    }
    pthread_mutex_unlock(&batches.lock);
}

static void put_when(Buf *b, const char *name, bool known, time_t t) {
    if (known)
        buf_fmt(b, ",\"%s\":%lld", name, (long long)t);
    else
        buf_fmt(b, ",\"%s\":null", name);
}

/* text NULL: null. */
static void put_maybe(Buf *b, const char *name, const char *text) {
    buf_fmt(b, ",\"%s\":", name);
    if (text)
        buf_jstr(b, text);
    else
        buf_str(b, "null");
}

static const char *batch_status(const Batch *b) {
    if (!b->ended && b->cancelling) return "cancelling";
    if (!b->ended && b->polls == b->looks) return "validating";
    if (!b->ended) return b->polls == 1 && b->looks > 2 && !b->failed ? "finalizing" : "in_progress";
    if (b->failed) return "failed";
    if (b->cancelling) return "cancelled";
    return count_ends(b, 'x') ? "expired" : "completed";
}

static void put_batch(Buf *to, const Batch *b) {
    const char *status = batch_status(b);
    size_t good = count_ends(b, 's'), failed = b->ended ? count_ends(b, 'e') : 0;
    buf_fmt(to,
            "{\"id\":\"%s\",\"object\":\"batch\",\"endpoint\":\"%s\",\"errors\":%s,\"input_file_id\":\"%s\",",
            b->id, b->endpoint, b->ended && b->errors ? b->errors : "null", b->input);
    buf_fmt(to, "\"completion_window\":\"24h\",\"status\":\"%s\"", status);
    put_maybe(to, "output_file_id", b->output_id);
    put_maybe(to, "error_file_id", b->error_id);
    put_when(to, "created_at", true, b->made);
    put_when(to, "in_progress_at", b->polls < b->looks && !b->failed, b->made);
    put_when(to, "expires_at", true, b->made + 86400);
    put_when(to, "finalizing_at", b->ended && !b->failed, b->done);
    put_when(to, "completed_at", !strcmp(status, "completed"), b->done);
    put_when(to, "failed_at", !strcmp(status, "failed"), b->done);
    put_when(to, "expired_at", !strcmp(status, "expired"), b->done);
    put_when(to, "cancelling_at", b->cancelling, b->made);
    put_when(to, "cancelled_at", !strcmp(status, "cancelled"), b->done);
    buf_fmt(to,
            ",\"request_counts\":{\"total\":%zu,\"completed\":%zu,\"failed\":%zu},\"metadata\":", b->count,
            good, failed);
    if (b->metadata)
        buf_dump(to, b->metadata);
    else
        buf_str(to, "null");
    buf_str(to, "}");
}

static void put_output(Buf *to, const Line *l) {
    static const char never[] = "This request could not be executed before the completion window expired.",
                      stopped[] = "This request was not executed because the batch was cancelled.";
    bool answered = l->end == 's' || l->end == 'e';
    buf_fmt(to, "{\"id\":\"batch_req_%08x\",\"custom_id\":", hash32(l->custom_id, strlen(l->custom_id)));
    buf_jstr(to, l->custom_id);
    if (answered) {
        buf_fmt(to, ",\"response\":{\"status_code\":%u,\"request_id\":\"req_%08x\",\"body\":", l->status,
                hash32(l->custom_id, strlen(l->custom_id)));
        buf_cat(to, &l->answer);
        buf_str(to, "},\"error\":null}\n");
        return;
    }
    buf_fmt(to, ",\"response\":null,\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}\n",
            l->end == 'x' ? "batch_expired" : "batch_cancelled", l->end == 'x' ? never : stopped);
}

/* The two files of a batch that has ended. */
static void openai_outputs(Batch *b) {
    Buf good = {0}, wrong = {0};
    char name[100];
    for (size_t i = 0; i < b->count && !b->failed; i++)
        put_output(b->lines[i].end == 's' ? &good : &wrong, &b->lines[i]);
    snprintf(name, sizeof name, "%s_output.jsonl", b->id);
    if (good.n) b->output_id = must(strdup(store_file(b->key, name, &good)->id));
    snprintf(name, sizeof name, "%s_error.jsonl", b->id);
    if (wrong.n) b->error_id = must(strdup(store_file(b->key, name, &wrong)->id));
}

/* Why the whole file is refused; line from 1. */
static bool batch_fails(Batch *b, size_t line, const char *code, const char *message) {
    Buf text = {0};
    buf_fmt(
        &text,
        "{\"object\":\"list\",\"data\":[{\"code\":\"%s\",\"message\":\"%s\",\"param\":null,\"line\":%zu}]}",
        code, message, line);
    b->errors = text.p;
    b->failed = true;
    return false;
}

static bool batch_line(Batch *b, json_t *seen, const char *p, size_t n, size_t number) {
    json_t *j = json_loadb(p, n, JSON_REJECT_DUPLICATES, NULL);
    const char *id = str_of(j, "custom_id"), *url = str_of(j, "url");
    bool ok = true;
    if (!json_is_object(j))
        ok = batch_fails(b, number, "invalid_json_line", "This line is not parseable as valid JSON.");
    else if (!*id)
        ok = batch_fails(b, number, "missing_required_parameter", "custom_id is missing.");
    else if (json_object_get(seen, id))
        ok = batch_fails(b, number, "duplicate_custom_id", "This custom_id was in the file before.");
    else if (strcmp(str_of(j, "method"), "POST"))
        ok = batch_fails(b, number, "invalid_method", "The method must be POST.");
    else if (strcmp(url, b->endpoint))
        ok = batch_fails(b, number, "mismatched_endpoint", "The url is not the endpoint of the batch.");
    else if (!json_is_object(json_object_get(j, "body")) || json_object_size(j) != 4)
        ok = batch_fails(b, number, "invalid_request", "A line is {custom_id, method, url, body}.");
    if (ok) {
        json_object_set_new(seen, id, json_true());
        add_line(b, id, json_object_get(j, "body"));
    }
    json_decref(j);
    return ok;
}

static void batch_lines(Batch *b, const Buf *bytes) {
    json_t *seen = json_object();
    const char *p = bytes->p, *end = p + bytes->n;
    for (size_t number = 1; p < end; number++) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((eol ? eol : end) - p);
        if (b->count == 50000) batch_fails(b, number, "too_many_lines", "At most 50,000 requests.");
        if (b->failed || (n && !batch_line(b, seen, p, n, number))) break;
        p += n + 1;
    }
    if (!b->count && !b->failed) batch_fails(b, 0, "empty_file", "The input file is empty.");
    json_decref(seen);
}

static void openai_batch_new(Req *r) {
    static const Field f[] = {{"input_file_id", T_STR | T_NEED, 0, 0},
                              {"endpoint", T_STR | T_NEED, 0, 0},
                              {"completion_window", T_STR | T_NEED, 0, 0},
                              {"metadata", T_OBJ | T_NULL, 0, 0},
                              {"output_expires_after", T_OBJ, 0, 0}};
    const char *endpoint = str_of(r->root, "endpoint"), *file = str_of(r->root, "input_file_id");
    bool ok = ONLY_FIELDS(r, r->root, f, "") &&
              (ONE_OF(endpoint, "/v1/chat/completions", "/v1/responses", "/v1/embeddings") ||
               bad(r, "Invalid value: '%s'. (endpoint)", endpoint)) &&
              (!strcmp(str_of(r->root, "completion_window"), "24h") ||
               bad(r, "Invalid value for completion_window: only '24h' is supported."));
    if (!ok) return serve_error(r);
    pthread_mutex_lock(&batches.lock);
    Stored *input = find_file(own(r)->key(r), file);
    if (!input) {
        bad(r, "Invalid input_file_id: no file with ID '%s'.", file);
        serve_error(r);
    } else {
        Batch *b = add_batch(r, "batch_", input->key);
        b->input = must(strdup(file));
        b->endpoint = must(strdup(endpoint));
        b->metadata = json_incref(json_object_get(r->root, "metadata"));
        batch_lines(b, &input->bytes);
        put_batch(&r->out.body, b);
    }
    pthread_mutex_unlock(&batches.lock);
}

static void openai_batch_one(Req *r) {
    bool cancel = ends_with(r->item, "/cancel");
    pthread_mutex_lock(&batches.lock);
    if (cancel) r->item[strlen(r->item) - 7] = 0;
    Batch *b = find_batch(r, own(r)->key(r), r->item);
    if (!b) {
        no_such(r, "No batch found with that id.");
    } else if (cancel && b->ended) {
        r->out.status = 409;
        error_body(r, &r->out.body, 409, "Cannot cancel a batch that has ended.");
    } else {
        if (cancel)
            b->cancelling = true;
        else if (poll_batch(b))
            openai_outputs(b);
        put_batch(&r->out.body, b);
    }
    pthread_mutex_unlock(&batches.lock);
}

/* All that the key has, oldest first. */
static void batch_list(Req *r) {
    Buf *to = &r->out.body;
    const char *comma = "";
    pthread_mutex_lock(&batches.lock);
    buf_str(to, r->dialect == OPENAI ? "{\"object\":\"list\",\"data\":[" : "{\"data\":[");
    for (size_t i = 0; i < batches.count; i++) {
        Batch *b = batches.list[i];
        if (b->deleted || b->dialect != r->dialect || strcmp(b->key, own(r)->key(r))) continue;
        buf_str(to, comma);
        r->put_one(r, b);
        comma = ",";
    }
    buf_str(to, "],\"has_more\":false}");
    pthread_mutex_unlock(&batches.lock);
}

static void openai_put_one(Req *r, const void *b) { put_batch(&r->out.body, b); }

/* ---------------------------------------------------------------- batches: anthropic */

static void put_iso(Buf *b, const char *name, bool known, time_t t) {
    char text[40];
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S.000000+00:00", &tm);
    put_maybe(b, name, known ? text : NULL);
}

static void anthropic_put_one(Req *r, const void *item) {
    const Batch *b = item;
    Buf *to = &r->out.body;
    buf_fmt(to, "{\"id\":\"%s\",\"type\":\"message_batch\",\"processing_status\":\"%s\",\"request_counts\":{",
            b->id,
            b->ended        ? "ended"
            : b->cancelling ? "canceling"
                            : "in_progress");
    buf_fmt(to, "\"processing\":%zu,\"succeeded\":%zu,\"errored\":%zu,\"canceled\":%zu,\"expired\":%zu}",
            b->ended ? 0 : b->count, count_ends(b, 's'), count_ends(b, 'e'), count_ends(b, 'c'),
            count_ends(b, 'x'));
    put_iso(to, "created_at", true, b->made);
    put_iso(to, "expires_at", true, b->made + 86400);
    put_iso(to, "ended_at", b->ended, b->done);
    put_iso(to, "archived_at", false, 0);
    put_iso(to, "cancel_initiated_at", b->cancelling, b->made);
    buf_str(to, ",\"results_url\":");
    if (b->ended)
        buf_fmt(to, "\"%s://%s/v1/messages/batches/%s/results\"}", r->tls ? "https" : "http",
                header(r, "host"), b->id);
    else
        buf_str(to, "null}");
}

static bool anthropic_requests(Req *r, json_t *list) {
    static const Field f[] = {{"custom_id", T_STR | T_NEED, 0, 0}, {"params", T_OBJ | T_NEED, 0, 0}};
    json_t *one, *seen = json_object();
    size_t i;
    char where[40];
    bool ok = (json_array_size(list) && json_array_size(list) <= 100000) || bad(r, "requests: 1 to 100,000");
    json_array_foreach(list, i, one) {
        snprintf(where, sizeof where, "requests.%zu", i);
        const char *id = str_of(one, "custom_id");
        ok = ok && ONLY_FIELDS(r, one, f, where) &&
             (name_ok(id, "_-", 64) ||
              bad(r, "%s.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'", where)) &&
             (!json_object_get(seen, id) || bad(r, "%s.custom_id: custom_id must be unique", where));
        json_object_set_new(seen, id, json_true());
    }
    json_decref(seen);
    return ok;
}

static void anthropic_batch_new(Req *r) {
    static const Field f[] = {{"requests", T_ARR | T_NEED, 0, 0}};
    json_t *list = json_object_get(r->root, "requests"), *one;
    size_t i;
    if (!ONLY_FIELDS(r, r->root, f, "") || !anthropic_requests(r, list)) return serve_error(r);
    pthread_mutex_lock(&batches.lock);
    Batch *b = add_batch(r, "msgbatch_", own(r)->key(r));
    json_array_foreach(list, i, one) add_line(b, str_of(one, "custom_id"), json_object_get(one, "params"));
    anthropic_put_one(r, b);
    pthread_mutex_unlock(&batches.lock);
}

static void anthropic_results(Req *r, const Batch *b) {
    static const char *const words[] = {"canceled", "expired"};
    Buf *to = &r->out.body;
    set_header(r, "Content-Type", "application/x-jsonl");
    for (size_t i = 0; i < b->count; i++) {
        const Line *l = &b->lines[i];
        buf_str(to, "{\"custom_id\":");
        buf_jstr(to, l->custom_id);
        if (l->end == 's' || l->end == 'e') {
            buf_fmt(to, ",\"result\":{\"type\":\"%s\",\"%s\":", l->end == 's' ? "succeeded" : "errored",
                    l->end == 's' ? "message" : "error");
            buf_cat(to, &l->answer);
            buf_str(to, "}}\n");
        } else {
            buf_fmt(to, ",\"result\":{\"type\":\"%s\"}}\n", words[l->end == 'x']);
        }
    }
}

static void anthropic_batch_one(Req *r) {
    char *verb = strchr(r->item, '/');
    pthread_mutex_lock(&batches.lock);
    if (verb) *verb++ = 0;
    Batch *b = find_batch(r, own(r)->key(r), r->item);
    bool drop = !strcmp(r->method, "DELETE");
    if (!b) {
        no_such(r, "Not found: that message batch");
    } else if (verb && !strcmp(verb, "results")) {
        if (b->ended)
            anthropic_results(r, b);
        else
            no_such(r, "The batch has no results yet.");
    } else if (drop) {
        b->deleted = b->ended;
        if (b->ended)
            buf_fmt(&r->out.body, "{\"id\":\"%s\",\"type\":\"message_batch_deleted\"}", b->id);
        else if (bad(r, "A batch that is in progress cannot be deleted."), true)
            serve_error(r);
    } else {
        if (verb && !b->ended)
            b->cancelling = true;
        else if (!verb)
            poll_batch(b);
        anthropic_put_one(r, b);
    }
    pthread_mutex_unlock(&batches.lock);
}

/* ---------------------------------------------------------------- batches: routes */

typedef struct Service {
    const char *method, *path, *verb; /* path: and an id when it ends in a slash; verb: what follows the id */
    int dialect;
    void (*serve)(Req *);
} Service;

static const Service services[] = {
    {"POST", "/v1/files", "", OPENAI, file_upload},
    {"GET", "/v1/files/", "", OPENAI, file_one},
    {"DELETE", "/v1/files/", "", OPENAI, file_one},
    {"GET", "/v1/files/", "/content", OPENAI, file_one},
    {"POST", "/v1/batches", "", OPENAI, openai_batch_new},
    {"GET", "/v1/batches", "", OPENAI, batch_list},
    {"GET", "/v1/batches/", "", OPENAI, openai_batch_one},
    {"POST", "/v1/batches/", "/cancel", OPENAI, openai_batch_one},
    {"POST", "/v1/messages/batches", "", ANTHROPIC, anthropic_batch_new},
    {"GET", "/v1/messages/batches", "", ANTHROPIC, batch_list},
    {"GET", "/v1/messages/batches/", "", ANTHROPIC, anthropic_batch_one},
    {"DELETE", "/v1/messages/batches/", "", ANTHROPIC, anthropic_batch_one},
    {"GET", "/v1/messages/batches/", "/results", ANTHROPIC, anthropic_batch_one},
    {"POST", "/v1/messages/batches/", "/cancel", ANTHROPIC, anthropic_batch_one},
};

/* Does the path, after any prefix, belong to this service? Its id and verb become the item. */
static bool service_matches(Req *r, const Service *s, const char *url) {
    const char *at = strstr(url, s->path);
    size_t n = strlen(s->path), m = strlen(s->verb);
    if (!at || strcmp(r->method, s->method)) return false;
    const char *rest = at + n;
    if (s->path[n - 1] != '/') return !*rest;
    size_t id = strcspn(rest, "/");
    if (!id || strcmp(rest + id, s->verb)) return false;
    free(r->item);
    r->item = must(strndup(rest, id + m));
    return true;
}

static bool batch_route(Req *r, const char *url) {
    for (size_t i = 0; i < COUNT(services); i++) {
        const Service *s = &services[i];
        if (!service_matches(r, s, url)) continue;
        r->dialect = s->dialect;
        r->serve = s->serve;
        r->put_one = s->dialect == OPENAI ? openai_put_one : anthropic_put_one;
        r->model = must(strdup(strstr(s->path, "files") ? "files" : "batches"));
        r->label = r->model;
        return true;
    }
    return false;
}
