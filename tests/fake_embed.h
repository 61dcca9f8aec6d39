/* fake_embed.h - embeddings for fake_provider.c, which includes this after the dialects.
 *
 *   POST .../embeddings                     OpenAI's; under /mistral/v1 Mistral's
 *   POST .../models/M:embedContent          Gemini's, of one text; :batchEmbedContents of several
 *   POST .../api/embed                      Ollama's
 *   POST .../v2/embed                       Cohere's
 *   POST .../model/ID/invoke                Bedrock's: ID has titan-embed, cohere.embed or nova in it
 *
 * A vector is the sum over the words of a text of +-1 drawn from the word's hash, made unit length: texts with
 * words in common are near. 64 numbers, or as the request asks; the fault "dim":N makes it N numbers whatever
 * was asked, "embed_short":true leaves the last vector out, "embed_shuffled":true sends OpenAI's in reverse
 * order. The other faults work as for chat.
 *
 * Contents: vectors, requests, replies, the kinds. */

#define DEFAULT_DIM 64
#define MAX_DIM 4096
#define MAX_INPUTS 2048 /* of one request, as OpenAI has it */

typedef struct Embedding {
    bool (*validate)(Req *);
    void (*body)(Req *);
} Embedding;

enum {
    EMBED_OPENAI,
    EMBED_MISTRAL,
    EMBED_GEMINI,
    EMBED_GEMINI_BATCH,
    EMBED_OLLAMA,
    EMBED_COHERE,
    EMBED_TITAN,
    EMBED_BEDROCK_COHERE,
    EMBED_NOVA,
    EMBED_KINDS
};
static const Embedding embed_kinds[EMBED_KINDS];

/* ---------------------------------------------------------------- embeddings: vectors */

/* The sum over its words, unit length; a text without words is the first axis. */
static void embed_text(const char *p, size_t n, float *out, size_t dim) {
    double length = 0;
    memset(out, 0, dim * sizeof *out);
    for (size_t i = 0; i < n;) {
        char word[64];
        size_t k = 0;
        while (i < n && !isalnum((unsigned char)p[i]) && (unsigned char)p[i] < 0x80) i++;
        for (; i < n && (isalnum((unsigned char)p[i]) || (unsigned char)p[i] >= 0x80); i++)
            if (k < sizeof word) word[k++] = (char)tolower((unsigned char)p[i]);
        uint64_t x = k ? mix64(hash32(word, k)) : 0;
        for (size_t d = 0; k && d < dim; d++) {
            if (d % 64 == 0) x = mix64(x);
            out[d] += x >> (d % 64) & 1 ? 1.0f : -1.0f;
        }
    }
    for (size_t d = 0; d < dim; d++) length += (double)out[d] * (double)out[d];
    if (length <= 0) out[0] = 1, length = 1;
    for (size_t d = 0; d < dim; d++) out[d] = (float)((double)out[d] / sqrt(length));
}

static void put_floats(Req *r, Buf *b, size_t i, bool base64) {
    static _Thread_local float vector[MAX_DIM];
    const json_t *text = json_array_get(r->texts, i);
    size_t dim = r->dim ? r->dim : DEFAULT_DIM;
    if (r->f.dim > 0 && r->f.dim <= MAX_DIM) dim = (size_t)r->f.dim;
    embed_text(json_string_value(text), json_string_length(text), vector, dim);
    buf_str(b, base64 ? "\"" : "[");
    if (base64) base64_put(b, (const char *)vector, dim * sizeof *vector); /* little-endian, as OpenAI's */
    for (size_t d = 0; !base64 && d < dim; d++) buf_fmt(b, "%s%.8g", d ? "," : "", (double)vector[d]);
    buf_str(b, base64 ? "\"" : "]");
}

/* How many vectors the reply has. */
static size_t embed_count(const Req *r) {
    size_t n = json_array_size(r->texts);
    return n && r->f.embed_short ? n - 1 : n;
}

/* [[...],[...]] */
static void put_vectors(Req *r, Buf *b) {
    buf_str(b, "[");
    for (size_t i = 0; i < embed_count(r); i++) {
        buf_str(b, i ? "," : "");
        put_floats(r, b, i, false);
    }
    buf_str(b, "]");
}

/* ---------------------------------------------------------------- embeddings: requests */

/* The texts of a request: a string, or a list of 1 to max strings. */
static bool embed_texts(Req *r, json_t *input, size_t max, const char *where) {
    json_t *v;
    size_t i;
    r->texts = json_array();
    if (json_is_string(input)) {
        take_text(r, NULL, input);
        json_array_append(r->texts, input);
        return json_string_length(input) || bad(r, "%s: cannot be an empty string", where);
    }
    if (!json_array_size(input) || json_array_size(input) > max)
        return bad(r, "%s: 1 to %zu texts", where, max);
    json_array_foreach(input, i, v) {
        if (!json_string_length(v)) return bad(r, "%s[%zu]: must be a nonempty string", where, i);
        take_text(r, NULL, v);
        json_array_append(r->texts, v);
    }
    return true;
}

static void embed_dim(Req *r, const json_t *obj, const char *key) {
    json_t *v = json_object_get(obj, key);
    if (json_is_integer(v)) r->dim = (size_t)json_integer_value(v);
}

/* sizes ends with 0. */
static bool dim_among(Req *r, const size_t *sizes, const char *where) {
    while (*sizes && *sizes != r->dim) sizes++;
    return !r->dim || *sizes || bad(r, "%s: %zu is not one of the sizes of this model", where, r->dim);
}

static bool openai_embed_validate(Req *r) {
    static const Field f[] = {{"model", T_STR | T_NEED, 0, 0},
                              {"input", T_STR | T_ARR | T_NEED, 0, 0},
                              {"encoding_format", T_STR, 0, 0},
                              {"dimensions", T_INT, 1, MAX_DIM},
                              {"user", T_STR, 0, 0}};
    const char *format = str_of(r->root, "encoding_format");
    if (!ONLY_FIELDS(r, r->root, f, "")) return false;
    if (*format && !ONE_OF(format, "float", "base64"))
        return bad(r, "encoding_format: must be float or base64");
    embed_dim(r, r->root, "dimensions");
    return embed_texts(r, json_object_get(r->root, "input"), MAX_INPUTS, "input");
}

static bool mistral_embed_validate(Req *r) {
    static const Field f[] = {{"model", T_STR | T_NEED, 0, 0},  {"input", T_STR | T_ARR | T_NEED, 0, 0},
                              {"encoding_format", T_STR, 0, 0}, {"output_dimension", T_INT, 1, 3072},
                              {"output_dtype", T_STR, 0, 0},    {"metadata", T_OBJ, 0, 0}};
    const char *type = str_of(r->root, "output_dtype"), *format = str_of(r->root, "encoding_format");
    if (!ONLY_FIELDS(r, r->root, f, "")) return false;
    if (*type && strcmp(type, "float")) return bad(r, "output_dtype: this fake has only float");
    if (*format && !ONE_OF(format, "float", "base64"))
        return bad(r, "encoding_format: must be float or base64");
    embed_dim(r, r->root, "output_dimension");
    return embed_texts(r, json_object_get(r->root, "input"), MAX_INPUTS, "input");
}

/* One request for one text; the model is named in each of a batch. */
static bool gemini_embed_one(Req *r, json_t *one, bool batch, const char *where) {
    static const Field f[] = {{"model", T_STR, 0, 0},
                              {"content", T_OBJ | T_NEED, 0, 0},
                              {"taskType", T_STR, 0, 0},
                              {"title", T_STR, 0, 0},
                              {"outputDimensionality", T_INT, 1, MAX_DIM}};
    const char *task = str_of(one, "taskType"), *model = str_of(one, "model");
    json_t *parts = json_object_get(json_object_get(one, "content"), "parts"), *p;
    size_t i;
    Buf text = {0};
    if (!ONLY_FIELDS(r, one, f, where)) return false;
    if ((batch || *model) && (!starts_with(model, "models/") || strcmp(model + 7, r->model)))
        return bad(r, "* BatchEmbedContentsRequest.%s.model: '%s' is not 'models/' and the model of the path",
                   where, model);
    if (*task &&
        !ONE_OF(task, "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY", "CLASSIFICATION",
                "CLUSTERING", "QUESTION_ANSWERING", "FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY"))
        return bad(r, "%s.taskType: invalid value '%s'", where, task);
    if (json_object_get(one, "title") && strcmp(task, "RETRIEVAL_DOCUMENT"))
        return bad(r, "%s.title: only with taskType RETRIEVAL_DOCUMENT", where);
    json_array_foreach(parts, i, p) take_text(r, &text, json_object_get(p, "text"));
    bool ok = text.n || bad(r, "%s.content: contains an empty Part", where);
    if (ok) json_array_append_new(r->texts, json_stringn(text.p, text.n));
    buf_free(&text);
    embed_dim(r, one, "outputDimensionality");
    return ok;
}

static bool gemini_embed_validate(Req *r) {
    r->texts = json_array();
    return gemini_embed_one(r, r->root, false, "");
}

static bool gemini_batch_validate(Req *r) {
    static const Field f[] = {{"requests", T_ARR | T_NEED, 0, 0}};
    json_t *list = json_object_get(r->root, "requests"), *one;
    size_t i, first = 0;
    char where[40];
    if (!ONLY_FIELDS(r, r->root, f, "")) return false;
    if (!json_array_size(list) || json_array_size(list) > 100)
        return bad(
            r,
            "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch, and not none");
    r->texts = json_array();
    json_array_foreach(list, i, one) {
        snprintf(where, sizeof where, "requests[%zu]", i);
        if (!gemini_embed_one(r, one, true, where)) return false;
        if (i && first != r->dim)
            return bad(r, "%s.outputDimensionality: this fake wants one for all", where);
        first = r->dim;
    }
    return true;
}

static bool ollama_embed_validate(Req *r) {
    static const Field f[] = {{"model", T_STR | T_NEED, 0, 0},     {"input", T_STR | T_ARR | T_NEED, 0, 0},
                              {"truncate", T_BOOL, 0, 0},          {"options", T_OBJ, 0, 0},
                              {"keep_alive", T_STR | T_NUM, 0, 0}, {"dimensions", T_INT, 1, MAX_DIM}};
    if (!ONLY_FIELDS(r, r->root, f, "")) return false;
    embed_dim(r, r->root, "dimensions");
    return embed_texts(r, json_object_get(r->root, "input"), MAX_INPUTS, "input");
}

/* What Cohere's own endpoint and Bedrock's have in common. v3 has one size, and other words to truncate. */
static bool cohere_embed_rest(Req *r, bool old) {
    static const size_t sizes[] = {256, 512, 1024, 1536, 0};
    const char *type = str_of(r->root, "input_type"), *cut = str_of(r->root, "truncate");
    json_t *v;
    size_t i;
    if (!ONE_OF(type, "search_query", "search_document", "classification", "clustering", "image"))
        return bad(r, "invalid input_type: '%s'", type);
    bool words = r->dialect == COHERE || old ? ONE_OF(cut, "NONE", "START", "END")
                                             : ONE_OF(cut, "NONE", "LEFT", "RIGHT");
    if (*cut && !words) return bad(r, "truncate: invalid value '%s'", cut);
    if (old && json_object_get(r->root, "output_dimension"))
        return bad(r, "output_dimension: not supported by this model");
    json_array_foreach(json_object_get(r->root, "embedding_types"), i,
                       v) if (!json_is_string(v) ||
                              strcmp(json_string_value(v),
                                     "float")) return bad(r, "embedding_types: this fake has only float");
    embed_dim(r, r->root, "output_dimension");
    return dim_among(r, sizes, "output_dimension") &&
           embed_texts(r, json_object_get(r->root, "texts"), 96, "texts");
}

static bool cohere_embed_validate(Req *r) {
    static const Field f[] = {{"model", T_STR | T_NEED, 0, 0},
                              {"texts", T_ARR | T_NEED, 0, 0},
                              {"input_type", T_STR | T_NEED, 0, 0},
                              {"embedding_types", T_ARR, 0, 0},
                              {"output_dimension", T_INT, 1, MAX_DIM},
                              {"truncate", T_STR, 0, 0},
                              {"max_tokens", T_INT, 0, 0},
                              {"priority", T_INT, 0, 0}};
    return ONLY_FIELDS(r, r->root, f, "") && cohere_embed_rest(r, strstr(r->model, "v3") != NULL);
}

static bool bedrock_cohere_validate(Req *r) {
    static const Field f[] = {{"texts", T_ARR | T_NEED, 0, 0},  {"input_type", T_STR | T_NEED, 0, 0},
                              {"embedding_types", T_ARR, 0, 0}, {"output_dimension", T_INT, 1, MAX_DIM},
                              {"truncate", T_STR, 0, 0},        {"max_tokens", T_INT, 0, 0}};
    return ONLY_FIELDS(r, r->root, f, "") && cohere_embed_rest(r, strstr(r->model, "v3") != NULL);
}

static bool titan_validate(Req *r) {
    static const Field f[] = {{"inputText", T_STR | T_NEED, 0, 0},
                              {"dimensions", T_INT, 1, MAX_DIM},
                              {"normalize", T_BOOL, 0, 0},
                              {"embeddingTypes", T_ARR, 0, 0}};
    static const size_t sizes[] = {256, 512, 1024, 0};
    if (!ONLY_FIELDS(r, r->root, f, "")) return false;
    embed_dim(r, r->root, "dimensions");
    return dim_among(r, sizes, "dimensions") &&
           embed_texts(r, json_object_get(r->root, "inputText"), 1, "inputText");
}

static bool nova_validate(Req *r) {
    static const Field f[] = {{"schemaVersion", T_STR, 0, 0},
                              {"taskType", T_STR | T_NEED, 0, 0},
                              {"singleEmbeddingParams", T_OBJ | T_NEED, 0, 0}},
                       inner[] = {{"embeddingPurpose", T_STR | T_NEED, 0, 0},
                                  {"embeddingDimension", T_INT, 0, 0},
                                  {"text", T_OBJ | T_NEED, 0, 0}},
                       text[] = {{"value", T_STR | T_NEED, 0, 0}, {"truncationMode", T_STR | T_NEED, 0, 0}};
    static const size_t sizes[] = {256, 384, 1024, 3072, 0};
    json_t *p = json_object_get(r->root, "singleEmbeddingParams"), *t = json_object_get(p, "text");
    if (!ONLY_FIELDS(r, r->root, f, "") || !ONLY_FIELDS(r, p, inner, "singleEmbeddingParams") ||
        !ONLY_FIELDS(r, t, text, "singleEmbeddingParams.text"))
        return false;
    if (strcmp(str_of(r->root, "taskType"), "SINGLE_EMBEDDING"))
        return bad(r, "taskType: must be SINGLE_EMBEDDING");
    if (!ONE_OF(str_of(p, "embeddingPurpose"), "GENERIC_INDEX", "GENERIC_RETRIEVAL", "TEXT_RETRIEVAL",
                "CLASSIFICATION", "CLUSTERING"))
        return bad(r, "embeddingPurpose: invalid value '%s'", str_of(p, "embeddingPurpose"));
    if (!ONE_OF(str_of(t, "truncationMode"), "START", "END", "NONE"))
        return bad(r, "truncationMode: invalid");
    embed_dim(r, p, "embeddingDimension");
    return dim_among(r, sizes, "embeddingDimension") &&
           embed_texts(r, json_object_get(t, "value"), 1, "value");
}

/* The kind by the id of the model, EMBED_KINDS: none. */
static int bedrock_embed_kind(const char *model) {
    if (strstr(model, "titan-embed")) return EMBED_TITAN;
    if (strstr(model, "cohere.embed")) return EMBED_BEDROCK_COHERE;
    return strstr(model, "nova") ? EMBED_NOVA : EMBED_KINDS;
}

/* An invoke of anything else is not known here. */
static bool bedrock_invoke(Req *r) {
    int kind = bedrock_embed_kind(starts_with(r->model, "fault:") ? "titan-embed" : r->model);
    if (kind == EMBED_KINDS)
        return refuse(r, 404, "ResourceNotFoundException", "This fake invokes only embedding models.");
    r->embeds = &embed_kinds[kind];
    return true;
}

/* ---------------------------------------------------------------- embeddings: replies */

static void openai_embed_body(Req *r) {
    Buf *b = &r->out.body;
    bool base64 = !strcmp(str_of(r->root, "encoding_format"), "base64");
    size_t n = embed_count(r);
    buf_str(b, "{\"object\":\"list\",\"data\":[");
    for (size_t k = 0; k < n; k++) {
        size_t i = r->f.embed_shuffled ? n - 1 - k : k;
        buf_fmt(b, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", k ? "," : "", i);
        put_floats(r, b, i, base64);
        buf_str(b, "}");
    }
    buf_str(b, "],\"model\":");
    put_model(r, b);
    buf_fmt(b, ",\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld}}\n", (long long)r->ans.in,
            (long long)r->ans.in);
}

static void gemini_embed_body(Req *r) {
    buf_str(&r->out.body, "{\"embedding\":{\"values\":");
    put_floats(r, &r->out.body, 0, false);
    buf_str(&r->out.body, "}}");
}

static void gemini_batch_body(Req *r) {
    Buf *b = &r->out.body;
    buf_str(b, "{\"embeddings\":[");
    for (size_t i = 0; i < embed_count(r); i++) {
        buf_str(b, i ? ",{\"values\":" : "{\"values\":");
        put_floats(r, b, i, false);
        buf_str(b, "}");
    }
    buf_str(b, "]}");
}

static void ollama_embed_body(Req *r) {
    Buf *b = &r->out.body;
    buf_str(b, "{\"model\":");
    put_model(r, b);
    buf_str(b, ",\"embeddings\":");
    put_vectors(r, b);
    buf_fmt(b, ",\"total_duration\":14143917,\"load_duration\":1019500,\"prompt_eval_count\":%lld}",
            (long long)r->ans.in);
}

static void cohere_embed_body(Req *r) {
    Buf *b = &r->out.body;
    buf_fmt(b, "{\"id\":\"%s\",\"embeddings\":{\"float\":", r->id);
    put_vectors(r, b);
    buf_str(b, "},\"texts\":");
    buf_dump(b, r->texts);
    buf_fmt(b,
            ",\"meta\":{\"api_version\":{\"version\":\"2\"},\"billed_units\":{\"input_tokens\":%lld}},"
            "\"response_type\":\"embeddings_by_type\"}",
            (long long)r->ans.in);
}

static void bedrock_embed_headers(Req *r) {
    char count[30];
    snprintf(count, sizeof count, "%lld", (long long)r->ans.in);
    if (!r->f.usage_none) set_header(r, "x-amzn-bedrock-input-token-count", count);
    set_header(r, "x-amzn-bedrock-invocation-latency", "108");
}

static void bedrock_cohere_body(Req *r) {
    Buf *b = &r->out.body;
    bool typed = !strstr(r->model, "v3") || json_object_get(r->root, "embedding_types");
    bedrock_embed_headers(r);
    buf_str(b, typed ? "{\"embeddings\":{\"float\":" : "{\"embeddings\":");
    put_vectors(r, b);
    buf_fmt(b, "%s,\"id\":\"%s\",\"response_type\":\"%s\",\"texts\":", typed ? "}" : "", r->id,
            typed ? "embeddings_by_type" : "embeddings_floats");
    buf_dump(b, r->texts);
    buf_str(b, "}");
}

static void titan_body(Req *r) {
    Buf *b = &r->out.body;
    bedrock_embed_headers(r);
    buf_str(b, "{\"embedding\":");
    put_floats(r, b, 0, false);
    buf_str(b, ",\"embeddingsByType\":{\"float\":");
    put_floats(r, b, 0, false);
    buf_fmt(b, "},\"inputTextTokenCount\":%lld}", (long long)r->ans.in);
}

static void nova_body(Req *r) {
    bedrock_embed_headers(r);
    buf_str(&r->out.body, "{\"embeddings\":[{\"embeddingType\":\"TEXT\",\"embedding\":");
    put_floats(r, &r->out.body, 0, false);
    buf_str(&r->out.body, "}]}");
}

static void embed_body(Req *r) {
    r->out.status = r->f.status >= 0 ? (unsigned)r->f.status : 200;
    count_usage(r);
    r->embeds->body(r);
}

/* ---------------------------------------------------------------- embeddings: the kinds */

static const Embedding embed_kinds[EMBED_KINDS] = {
    {openai_embed_validate, openai_embed_body},
    {mistral_embed_validate, openai_embed_body},
    {gemini_embed_validate, gemini_embed_body},
    {gemini_batch_validate, gemini_batch_body},
    {ollama_embed_validate, ollama_embed_body},
    {cohere_embed_validate, cohere_embed_body},
    {titan_validate, titan_body},
    {bedrock_cohere_validate, bedrock_cohere_body},
    {nova_validate, nova_body},
};
