/* Embeddings: what is written for each dialect and read from it, and llmgw_embed over sockets: parts, order, cost,
 * failover, refusals. */
#include "unit.h"
#include "testing.h"
#include "group.h"

#define ACCESS "AKIDEXAMPLE0123"
#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

static int reset(void **state) {
    provider_reset(&provider);
    return 0;
}

static llmgw_embed_request asks(const char *model, const char *const *texts, size_t count) {
    llmgw_embed_request request;
    memset(&request, 0, sizeof request);
    request.model = model;
    request.texts = texts;
    request.text_count = count;
    return request;
}

static void expect(const llmgw_vectors *v, llmgw_code code, const char *part) {
    if (v->error.code != code)
        fail_msg("expected %s, got %s: %s", llmgw_code_name(code), llmgw_code_name(v->error.code),
                 v->error.text);
    if (part) unit_has(v->error.text, part);
    assert_int_equal(v->values == NULL, code != LLMGW_OK);
    if (code) assert_true(v->count == 0 && v->dim == 0);
}

/* ---- what is written ---- */

typedef struct Written {
    const char *dialect, *flavour, *model;
    uint64_t quirks;
    int dimensions;
    llmgw_purpose purpose;
    size_t count;
    const char *path, *want;
} Written;

static const Written written[] = {
    {"openai", "openai", "text-embedding-3-small", 0, 128, LLMGW_PURPOSE_QUERY, 2, "/embeddings",
     "{'model':'text-embedding-3-small','input':['one','t\\u00fc'],'encoding_format':'base64','dimensions':"
     "128}"},
    {"openai", "mistral", "codestral-embed", LLMGWI_DIALECT_MISTRAL, 256, LLMGW_PURPOSE_ANY, 1, "/embeddings",
     "{'model':'codestral-embed','input':['one'],'encoding_format':'float','output_dimension':256}"},
    {"openai", "vllm", "bge", 0, 0, LLMGW_PURPOSE_ANY, 1, "/embeddings",
     "{'model':'bge','input':['one'],'encoding_format':'float'}"},
    {"gemini", "gemini", "gemini-embedding-001", 0, 768, LLMGW_PURPOSE_DOCUMENT, 2,
     "/models/gemini-embedding-001:batchEmbedContents",
     "{'requests':[{'model':'models/gemini-embedding-001','content':{'parts':[{'text':'one'}]},"
     "'taskType':'RETRIEVAL_DOCUMENT','outputDimensionality':768},"
     "{'model':'models/gemini-embedding-001','content':{'parts':[{'text':'t\\u00fc'}]},"
     "'taskType':'RETRIEVAL_DOCUMENT','outputDimensionality':768}]}"},
    {"gemini", "gemini", "g", 0, 0, LLMGW_PURPOSE_ANY, 1, "/models/g:batchEmbedContents",
     "{'requests':[{'model':'models/g','content':{'parts':[{'text':'one'}]}}]}"},
    {"ollama", "ollama", "nomic-embed-text", 0, 0, LLMGW_PURPOSE_QUERY, 2, "/api/embed",
     "{'model':'nomic-embed-text','input':['one','t\\u00fc'],'truncate':false}"},
    {"cohere", "cohere", "embed-v4.0", 0, 512, LLMGW_PURPOSE_ANY, 2, "/embed",
     "{'model':'embed-v4.0','texts':['one','t\\u00fc'],'input_type':'search_document','truncate':'NONE',"
     "'embedding_types':['float'],'output_dimension':512}"},
    {"bedrock", "bedrock", "us.cohere.embed-v4:0", 0, 512, LLMGW_PURPOSE_QUERY, 1,
     "/model/us.cohere.embed-v4%3A0/invoke",
     "{'texts':['one'],'input_type':'search_query','output_dimension':512,'truncate':'NONE'}"},
    {"bedrock", "bedrock", "amazon.titan-embed-text-v2:0", 0, 256, LLMGW_PURPOSE_QUERY, 1,
     "/model/amazon.titan-embed-text-v2%3A0/invoke", "{'inputText':'one','dimensions':256}"},
    {"bedrock", "bedrock", "amazon.nova-2-multimodal-embeddings-v1:0", 0, 1024, LLMGW_PURPOSE_QUERY, 1,
     "/model/amazon.nova-2-multimodal-embeddings-v1%3A0/invoke",
     "{'taskType':'SINGLE_EMBEDDING','singleEmbeddingParams':{'embeddingPurpose':'GENERIC_RETRIEVAL',"
     "'embeddingDimension':1024,'text':{'truncationMode':'NONE','value':'one'}}}"},
};

static const llmgwi_dialect_embedder *row_of(const char *dialect, const char *model) {
    llmgwi_dialect named;
    memset(&named, 0, sizeof named);
    named.name = dialect;
    return llmgwi_dialect_embedder_find(&named, dialect, model);
}

static void writes_each_dialect(void **state) {
    static const char *const texts[] = {"one", "t\xC3\xBC"};
    for (size_t i = 0; i < COUNT_OF(written); i++) {
        const Written *w = &written[i];
        const llmgwi_dialect_embedder *row = row_of(w->dialect, w->model);
        llmgwi_dialect_embed embed;
        llmgwi_dialect_target target;
        llmgwi_base_buf body, url;
        llmgw_error error;
        assert_non_null(row);
        memset(&embed, 0, sizeof embed);
        memset(&target, 0, sizeof target);
        memset(&error, 0, sizeof error);
        embed.texts = texts;
        embed.count = w->count;
        embed.dimensions = w->dimensions;
        embed.purpose = w->purpose;
        target.model = w->model;
        target.flavour = w->flavour;
        target.quirks = w->quirks;
        llmgwi_base_buf_init(&body, &unit_mem, 1 << 20);
        llmgwi_base_buf_init(&url, &unit_mem, 1 << 20);
        assert_true(llmgwi_dialect_write(&row->wire, &target, &embed.request, NULL, &body, &error));
        assert_true(llmgwi_dialect_url(&row->wire, "http://h", w->model, false, &url));
        assert_string_equal(url.p + strlen("http://h"), w->path);
        json_t *json = json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, NULL);
        if (!json) fail_msg("%s: not JSON: %s", w->model, body.p);
        unit_is(json, "", w->want);
        json_decref(json);
        llmgwi_base_buf_free(&body);
        llmgwi_base_buf_free(&url);
    }
    assert_null(row_of("anthropic", "claude-haiku-4-5"));
    assert_null(row_of("bedrock", "anthropic.claude-haiku-4-5"));
}

static void bad_utf8_names_the_text(void **state) {
    static const char *const texts[] = {"one", "\xFF"};
    llmgw *gw = t_open(&provider, NULL);
    llmgw_embed_request request = asks("openai/e", texts, 2);
    llmgw_vectors *v = llmgw_embed(gw, &request);
    expect(v, LLMGW_E_ARGUMENT, "request.texts[1]: bad UTF-8 at byte 0");
    llmgw_vectors_free(v);
    assert_int_equal(provider_count(&provider, "requests"), 0);
    llmgw_close(gw);
}

/* ---- what is read ---- */

typedef struct Got {
    llmgwi_dialect_answer answer;
    llmgwi_dialect_target target;
} Got;

static bool got(Got *g, llmgwi_base_str body) {
    memset(g, 0, sizeof *g);
    llmgwi_dialect_answer_init(&g->answer, &unit_mem, &g->target, (size_t)1 << 24, 128);
    bool good = llmgwi_dialect_embed_reply(&g->answer, body);
    assert_int_equal(good, g->answer.error.code == LLMGW_OK);
    return good;
}

static float number(const Got *g, size_t i) {
    float value;
    assert_true((i + 1) * sizeof value <= g->answer.text.n);
    memcpy(&value, g->answer.text.p + i * sizeof value, sizeof value);
    return value;
}

typedef struct Read {
    const char *body;
    size_t vectors, numbers;
    float first, last;
    int64_t tokens; /* -1: not told */
} Read;

static const Read reads[] = {
    /* openai: the index decides; base64 is little-endian, also escaped */
    {"{'data':[{'index':1,'embedding':[3,4]},{'embedding':[1.5,-2e0],'index':0,'object':'embedding'}],"
     "'model':'m','usage':{'prompt_tokens':7,'total_tokens':7}}",
     2, 4, 1.5f, 4, 7},
    {"{'data':[{'index':0,'embedding':'AADAPwAAAMA='}],'usage':{'prompt_tokens':2}}", 1, 2, 1.5f, -2, 2},
    {"{'data':[{'index':0,'embedding':'\\/\\/\\/\\/Ag=='}],'usage':{}}", 1, 1, 0x1.fffffep-122f,
     0x1.fffffep-122f, -1},
    {"{'data':[{'index':0,'embedding':'AACAv\\u0077AA\\/z8='}]}", 1, 2, -1, 1.9921875f, -1},
    {"{'data':[{'embedding':[1]},{'embedding':[2]}]}", 2, 2, 1, 2, -1},
    /* gemini */
    {"{'embeddings':[{'values':[1,2,3]},{'values':[4,5,6]}],'usageMetadata':{'promptTokenCount':9}}", 2, 6, 1,
     6, 9},
    /* ollama */
    {"{'model':'m','embeddings':[[0.5,0.25]],'total_duration':14143917,'prompt_eval_count':8}", 1, 2, 0.5f,
     0.25f, 8},
    /* cohere, and cohere in bedrock, v4 and v3 */
    {"{'id':'i','embeddings':{'float':[[1,2],[3,4]]},'texts':['a','b'],'meta':{'api_version':{'version':'2'},"
     "'billed_units':{'input_tokens':4}},'response_type':'embeddings_by_type'}",
     2, 4, 1, 4, 4},
    {"{'embeddings':[[1,2],[3,4]],'id':'x','response_type':'embeddings_floats','texts':['a','b']}", 2, 4, 1,
     4, -1},
    /* titan */
    {"{'embedding':[0.1,0.2,0.3],'embeddingsByType':{'float':[9,9,9]},'inputTextTokenCount':5}", 1, 3, 0.1f,
     0.3f, 5},
    /* nova */
    {"{'embeddings':[{'embeddingType':'TEXT','embedding':[1,2]}]}", 1, 2, 1, 2, -1},
};

static void reads_each_dialect(void **state) {
    for (size_t i = 0; i < COUNT_OF(reads); i++) {
        Got g;
        bool good = got(&g, llmgwi_base_cstr(unit_quoted(reads[i].body)));
        if (good != (reads[i].vectors > 0)) fail_msg("%s: %s", reads[i].body, g.answer.error.text);
        if (good) {
            assert_int_equal(g.answer.vectors, reads[i].vectors);
            assert_int_equal(g.answer.text.n, reads[i].numbers * sizeof(float));
            assert_true(number(&g, 0) == reads[i].first);
            assert_true(number(&g, reads[i].numbers - 1) == reads[i].last);
            assert_int_equal(g.answer.usage.known, reads[i].tokens >= 0);
            if (reads[i].tokens >= 0) assert_int_equal(g.answer.usage.input, reads[i].tokens);
        }
        llmgwi_dialect_answer_free(&g.answer);
    }
}

static const char *const wrongs[][2] = {
    {"{}", "no vector"},
    {"[]", "embedding: "},
    {"{'data':[]}", "no vector"},
    {"{'data':[{'index':1,'embedding':[1]}]}", "one is missing"},
    {"{'data':[{'index':0,'embedding':[1]},{'index':0,'embedding':[1]}]}", "comes twice"},
    {"{'data':[{'index':2048,'embedding':[1]}]}", "larger than 2,047"},
    {"{'data':[{'index':0,'embedding':[1,2]},{'index':1,'embedding':[1]}]}", "another length"},
    {"{'data':[{'index':0,'embedding':[]}]}", "no vector"},
    {"{'data':[{'index':0,'embedding':''}]}", "empty"},
    {"{'data':[{'index':0,'embedding':[1e99]}]}", "not a vector"},
    {"{'data':[{'index':0,'embedding':'AADA'}]}", "not the base64"},
    {"{'data':[{'index':0,'embedding':'AAD!PwAAAMA='}]}", "not the base64"},
    {"{'data':[{'index':0,'embedding':'AADAfw=='}]}", "not a vector"}, /* a NaN */
    {"{'embeddings':[[1,2],[3,null]]}", "another length"},
    {"{'error':{'message':'no such model','code':'model_not_found'}}", "no such model"},
    {"{'data':[{'index':0,'embedding':[1]}", "at byte"},
    {"{'data':[{'index':0,'embedding':[1]}]} x", "at byte"},
};

static void names_what_is_wrong(void **state) {
    for (size_t i = 0; i < COUNT_OF(wrongs); i++) {
        Got g;
        if (got(&g, llmgwi_base_cstr(unit_quoted(wrongs[i][0])))) fail_msg("accepted: %s", wrongs[i][0]);
        unit_has(g.answer.error.text, wrongs[i][1]);
        llmgwi_dialect_answer_free(&g.answer);
    }
}

/* A reply of 20,000 numbers in one vector, and one that would be larger than the cap. */
static void caps_hold(void **state) {
    llmgwi_base_buf body;
    Got g;
    llmgwi_base_buf_init(&body, &unit_mem, (size_t)1 << 24);
    llmgwi_base_buf_text(&body, "{\"embedding\":[0");
    for (int i = 0; i < 20000; i++) llmgwi_base_buf_text(&body, ",1");
    llmgwi_base_buf_text(&body, "]}");
    assert_false(got(&g, llmgwi_base_buf_str(&body)));
    unit_has(g.answer.error.text, "at most 16,384 numbers");
    llmgwi_dialect_answer_free(&g.answer);
    llmgwi_base_buf_clear(&body);
    llmgwi_base_buf_text(&body, "{\"data\":[{\"index\":2047,\"embedding\":[0");
    for (int i = 0; i < 4000; i++) llmgwi_base_buf_text(&body, ",1");
    llmgwi_base_buf_text(&body, "]}]}");
    assert_false(got(&g, llmgwi_base_buf_str(&body)));
    assert_int_equal(g.answer.error.code, LLMGW_E_TOO_LARGE);
    llmgwi_dialect_answer_free(&g.answer);
    llmgwi_base_buf_free(&body);
}

/* ---- recorded replies ---- */

#define RECORDED "../shared/fixtures/embeddings/"

static char *recorded(const char *name, size_t *n) {
    char path[300];
    const char *const roots[] = {RECORDED, "/work/shared/fixtures/embeddings/"};
    for (size_t i = 0; i < COUNT_OF(roots); i++) {
        snprintf(path, sizeof path, "%s%s", roots[i], name);
        FILE *file = fopen(path, "rb");
        if (!file) continue;
        char *bytes = (char *)malloc(1 << 20);
        *n = fread(bytes, 1, 1 << 20, file);
        fclose(file);
        return bytes;
    }
    return NULL;
}

/* As jansson reads them. */
static void recorded_replies(void **state) {
    size_t n;
    Got g;
    char *bytes = recorded("pydanticai__TestBedrock.test_cohere_v4_with_dimensions.response.json", &n);
    if (!bytes) {
        print_message("SKIPPED: no fixtures at " RECORDED "\n");
        skip();
    }
    json_t *json = json_loadb(bytes, n, 0, NULL), *floats = unit_at(json, "embeddings.float.0");
    if (!got(&g, llmgwi_base_view(bytes, n))) fail_msg("%s", g.answer.error.text);
    assert_int_equal(g.answer.vectors, 1);
    assert_int_equal(g.answer.text.n, 512 * sizeof(float));
    for (size_t i = 0; i < 512; i++)
        assert_true(number(&g, i) == (float)json_number_value(json_array_get(floats, i)));
    llmgwi_dialect_answer_free(&g.answer);
    json_decref(json);
    free(bytes);

    bytes = recorded("pydanticai__TestOpenAI.test_instrumentation.response.json", &n);
    assert_non_null(bytes);
    if (!got(&g, llmgwi_base_view(bytes, n))) fail_msg("%s", g.answer.error.text);
    assert_int_equal(g.answer.text.n, 128 * sizeof(float));
    double length = 0;
    for (size_t i = 0; i < 128; i++) length += (double)number(&g, i) * (double)number(&g, i);
    assert_true(length > 0.999 && length < 1.001); /* unit vectors: the bytes are in the right order */
    assert_int_equal(g.answer.usage.input, 4);
    llmgwi_dialect_answer_free(&g.answer);
    free(bytes);

    bytes = recorded("pydanticai__TestOpenAI.test_embed_error.response.json", &n);
    assert_non_null(bytes);
    assert_false(got(&g, llmgwi_base_view(bytes, n)));
    assert_int_equal(g.answer.error.code, LLMGW_E_NOT_FOUND);
    llmgwi_dialect_answer_free(&g.answer);
    free(bytes);
}

/* ---- over sockets ---- */

static double cosine(const llmgw_vectors *a, size_t i, const llmgw_vectors *b, size_t j) {
    double sum = 0;
    assert_int_equal(a->dim, b->dim);
    for (size_t d = 0; d < a->dim; d++)
        sum += (double)a->values[i * a->dim + d] * (double)b->values[j * b->dim + d];
    return sum;
}

static void one_text(void **state) {
    static const char *const texts[] = {"why is the sky blue", "the sky is blue, why", "a cake with plums"};
    llmgw *gw = t_open(&provider, NULL);
    llmgw_embed_request request = asks("openai/text-embedding-3-small", texts, 3);
    request.dimensions = 256;
    llmgw_vectors *v = llmgw_embed(gw, &request);
    expect(v, LLMGW_OK, NULL);
    assert_int_equal(v->count, 3);
    assert_int_equal(v->dim, 256);
    assert_true(cosine(v, 0, v, 0) > 0.999);
    assert_true(cosine(v, 0, v, 1) > cosine(v, 0, v, 2));
    assert_string_equal(v->provider, "openai");
    assert_string_equal(v->model, "text-embedding-3-small");
    unit_has(v->model_echo, "text-embedding-3-small-");
    assert_true(v->usage.known && v->usage.input > 0 && v->usage.output == 0);
    assert_int_equal(v->attempts, 1);
    assert_int_equal(v->trace_count, 1);
    assert_int_equal(v->trace[0].http_status, 200);
    llmgw_close(gw);
    assert_string_equal(v->trace[0].provider, "openai"); /* it outlives the gateway */
    llmgw_vectors_free(v);
}

/* More texts than one request takes: the order is kept, lengths count, and the sums are those of all. */
static void many_texts(void **state) {
    enum { N = 5000 };
    static char room[N][32];
    static const char *texts[N];
    static size_t lengths[N];
    for (int i = 0; i < N; i++) {
        lengths[i] = (size_t)snprintf(room[i], sizeof room[i], "number %d of many", i);
        memset(room[i] + lengths[i], 'x', 4); /* no NUL */
        texts[i] = room[i];
    }
    llmgw_options options = t_calm();
    options.config_json = "{\"models\":{\"e\":{\"provider\":\"openai\",\"model\":\"e-1\","
                          "\"price\":{\"input\":2,\"output\":0}}}}";
    llmgw *gw = t_open(&provider, &options);
    llmgw_embed_request request = asks("e", texts, N);
    request.lengths = lengths;
    request.dimensions = 1024;
    llmgw_vectors *v = llmgw_embed(gw, &request);
    expect(v, LLMGW_OK, NULL);
    assert_int_equal(v->count, N);
    assert_true(v->attempts >= 3);
    assert_int_equal(provider_asked(&provider, "e-1"), v->attempts);
    assert_int_equal(v->trace_count, v->attempts);
    int64_t input = 0, pico = 0;
    for (size_t i = 0; i < v->trace_count; i++) {
        input += v->trace[i].usage.input;
        pico += v->trace[i].cost.pico_usd;
    }
    assert_int_equal(v->usage.input, input);
    assert_true(v->cost.known && v->cost.pico_usd == pico && pico == input * 2000000);
    for (int i = 0; i < N; i += 611) {
        char text[32];
        const char *one = text;
        snprintf(text, sizeof text, "number %d of many", i);
        llmgw_embed_request alone = asks("e", &one, 1);
        alone.dimensions = 1024;
        llmgw_vectors *w = llmgw_embed(gw, &alone);
        expect(w, LLMGW_OK, NULL);
        assert_memory_equal(w->values, v->values + (size_t)i * v->dim, v->dim * sizeof(float));
        llmgw_vectors_free(w);
    }
    llmgw_vectors_free(v);
    llmgw_close(gw);
}

/* A part fails for good: so does the whole, but what the others cost is told. */
static void one_failure_fails_all(void **state) {
    enum { N = 60 };
    static const char *texts[N];
    for (int i = 0; i < N; i++) texts[i] = i == 35 ? "\xC3(" : "fine"; /* bad UTF-8, in the fourth part */
    llmgw_options options = t_calm();
    char url[128];
    llmgw_provider qwen = t_provider(&provider, "qwen", NULL, "/v1", OPENAI_KEY, url);
    options.providers = &qwen;
    options.provider_count = 1;
    llmgw *gw = t_open(&provider, &options);
    llmgw_embed_request request = asks("qwen/text-embedding-v4", texts, N);
    llmgw_vectors *v = llmgw_embed(gw, &request);
    expect(v, LLMGW_E_ARGUMENT, "texts[35]: bad UTF-8");
    assert_true(v->attempts < 6);
    assert_int_equal(llmgw_pending(gw), 0);
    llmgw_vectors_free(v);
    texts[35] = "fine";
    v = llmgw_embed(gw, &request);
    expect(v, LLMGW_OK, NULL);
    assert_int_equal(v->attempts, 6); /* ten at a time */
    llmgw_vectors_free(v);
    llmgw_close(gw);
}

static void fails_over_to_the_same_model_only(void **state) {
    static const char *const texts[] = {"a", "b"};
    llmgw_options options = t_calm();
    char urls[2][128];
    llmgw_provider two[] = {t_provider(&provider, "one", "openai", "/v1", OPENAI_KEY, urls[0]),
                            t_provider(&provider, "two", "openai", "/v1", OPENAI_KEY, urls[1])};
    options.providers = two;
    options.provider_count = 2;
    options.config_json = "{\"providers\":{\"v\":{\"dialect\":\"vertex\",\"project\":\"p\",\"key\":\"k\"}},"
                          "\"routes\":{\"same\":{\"try\":[\"one/bge-m3\",\"two/baai/bge-m3\"]},"
                          "\"mixed\":{\"try\":[\"one/bge-m3\",\"two/e5\"]},\"none\":{\"try\":[\"one/"
                          "claude\",\"anthropic/claude\"]}}}";
    llmgw *gw = t_open(&provider, &options);
    provider_model_rule(&provider, "bge-m3", "\"status\":500");
    llmgw_embed_request request = asks("same", texts, 2);
    llmgw_vectors *v = llmgw_embed(gw, &request);
    expect(v, LLMGW_OK, NULL);
    assert_string_equal(v->provider, "two");
    assert_int_equal(v->attempts, 2);
    llmgw_vectors_free(v);
    request.model = "mixed";
    v = llmgw_embed(gw, &request);
    expect(v, LLMGW_E_ARGUMENT, "do not mix");
    llmgw_vectors_free(v);
    request.model = "none";
    v = llmgw_embed(gw, &request);
    expect(v, LLMGW_E_UNSUPPORTED, "anthropic/claude");
    llmgw_vectors_free(v);
    request.model = "v/gemini-embedding-001"; /* Vertex has no :batchEmbedContents */
    v = llmgw_embed(gw, &request);
    expect(v, LLMGW_E_UNSUPPORTED, "v/gemini-embedding-001");
    llmgw_vectors_free(v);
    llmgw_close(gw);
}

static void refuses(void **state) {
    static const char *const texts[] = {"a", ""}, *const tags[] = {""};
    llmgw *gw = t_open(&provider, NULL);
    llmgw_embed_request request = asks("openai/e", texts, 2);
    const llmgw_embed_request good = asks("openai/e", texts, 1);
    struct {
        const char *part;
        llmgw_embed_request request;
    } rows[9];
    for (size_t i = 0; i < COUNT_OF(rows); i++) rows[i].request = good;
    rows[0].part = "texts[1]: empty", rows[0].request = request;
    rows[1].part = "texts: expected", rows[1].request.text_count = 0;
    rows[2].part = "texts: expected", rows[2].request.texts = NULL;
    rows[3].part = "model: required", rows[3].request.model = NULL;
    rows[4].part = "dimensions: expected", rows[4].request.dimensions = -1;
    rows[5].part = "purpose: no such", rows[5].request.purpose = (llmgw_purpose)7;
    rows[6].part = "tags: expected", rows[6].request.tags = tags, rows[6].request.tag_count = 1;
    rows[7].part = "max_attempts: expected", rows[7].request.max_attempts = 65;
    rows[8].part = "deadline_ms: expected", rows[8].request.deadline_ms = -2;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        llmgw_vectors *v = llmgw_embed(gw, &rows[i].request);
        expect(v, LLMGW_E_ARGUMENT, rows[i].part);
        llmgw_vectors_free(v);
    }
    llmgw_vectors *v = llmgw_embed(gw, NULL);
    expect(v, LLMGW_E_ARGUMENT, "NULL");
    llmgw_vectors_free(v);
    request = asks("nobody/e", texts, 1);
    v = llmgw_embed(gw, &request);
    expect(v, LLMGW_E_MODEL, NULL);
    llmgw_vectors_free(v);
    v = llmgw_embed(NULL, &request);
    expect(v, LLMGW_E_CLOSED, NULL);
    llmgw_vectors_free(v);
    llmgw_vectors_free(NULL);
    assert_int_equal(provider_count(&provider, "requests"), 0);
    llmgw_close(gw);
}

/* A provider that sends one vector too few, or other dimensions the second time, is at fault. */
static void serve_wrong(Raw *raw, int fd, int at) {
    char head[4096];
    int *kind = (int *)raw->arg;
    const char *bodies[] = {"{\"data\":[{\"index\":0,\"embedding\":[1,2]}]}",
                            "{\"data\":[{\"index\":0,\"embedding\":[1,2,3]}]}"};
    while (raw_request(raw, fd, head, sizeof head)) {
        int which = *kind == 0 ? 0 : raw_requests(raw) % 2;
        if (!raw_reply(fd, "200 OK", "Content-Type: application/json\r\n", bodies[which])) break;
    }
    (void)at;
}

static void a_wrong_count_is_the_providers_fault(void **state) {
    static const char *const texts[] = {"a", "b"};
    static const char *many[20];
    Raw raw;
    int kind = 0;
    char url[80];
    for (size_t i = 0; i < COUNT_OF(many); i++) many[i] = "text";
    raw_start(&raw, serve_wrong, &kind);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", raw.port);
    llmgw_options options = t_calm();
    llmgw_provider one;
    memset(&one, 0, sizeof one);
    one.name = "raw";
    one.dialect = "openai";
    one.url = url;
    one.key = "k";
    options.providers = &one;
    options.provider_count = 1;
    llmgw *gw = t_open(&provider, &options);
    llmgw_embed_request request = asks("raw/e", texts, 2);
    request.max_attempts = 1;
    llmgw_vectors *v = llmgw_embed(gw, &request);
    expect(v, LLMGW_E_PROTOCOL, "1 vectors for 2 texts");
    llmgw_vectors_free(v);
    llmgw_close(gw);
    raw_stop(&raw);
}

static void the_deadline_is_for_all(void **state) {
    static const char *const texts[] = {"a"};
    llmgw *gw = t_open(&provider, NULL);
    provider_model_rule(&provider, "e", "\"never\":true");
    llmgw_embed_request request = asks("openai/e", texts, 1);
    request.deadline_ms = 150;
    int64_t began = t_now_ms();
    llmgw_vectors *v = llmgw_embed(gw, &request);
    expect(v, LLMGW_E_DEADLINE, NULL);
    assert_in_range(t_now_ms() - began, 140, 5000);
    assert_false(v->usage.known);
    assert_true(v->trace[0].usage.estimated); /* it may have been charged */
    llmgw_vectors_free(v);
    llmgw_close(gw);
}

/* The strict provider takes what is written for each, and gives all the same vectors. */
static void each_provider(void **state) {
    enum { N = 250 };
    static char room[N][40];
    static const char *texts[N];
    static const struct {
        const char *name, *dialect, *path, *model;
        int requests;
    } rows[] = {
        {"openai", NULL, "/v1", "text-embedding-3-small", 1},
        {"mistral", NULL, "/mistral/v1", "codestral-embed", 2},
        {"gemini", NULL, "/v1beta", "gemini-embedding-001", 3},
        {"ollama", "ollama", "", "nomic-embed-text", 1},
        {"ollama7", "openai", "/v1", "nomic-embed-text", 1},
        {"cohere", NULL, "/v2", "embed-v4.0", 3},
        {"vllm", NULL, "/v1", "bge-m3", 1},
        {"llamacpp", NULL, "/llamacpp/v1", "bge-m3", 1},
        {"azure", NULL, "", "text-embedding-3-small", 1},
        {"openrouter", NULL, "/openrouter/v1", "openai/text-embedding-3-small", 1},
        {"qwen", NULL, "/qwen/v1", "text-embedding-v4", 25},
        {"bedrock", NULL, "", "cohere.embed-v4:0", 3},
        {"bedrock", NULL, "", "amazon.titan-embed-text-v2:0", N},
        {"bedrock", NULL, "", "amazon.nova-2-multimodal-embeddings-v1:0", N},
    };
    enum { ROWS = sizeof rows / sizeof *rows };
    char urls[ROWS][128];
    llmgw_provider all[ROWS];
    llmgw_options options = t_calm();
    for (size_t i = 0; i < ROWS; i++)
        all[i] = t_provider(&provider, rows[i].name, rows[i].dialect, rows[i].path,
                            "key-key-key-key-key-key-key", urls[i]);
    for (int i = 0; i < N; i++) {
        snprintf(room[i], sizeof room[i], "text %d \xC3\xBC \"of\" many", i);
        texts[i] = room[i];
    }
    options.providers = all;
    options.provider_count = ROWS - 2; /* bedrock is there once */
    options.no_environment = true;
    llmgw *gw = llmgw_open(&options, NULL);
    assert_non_null(gw);
    llmgw_vectors *first = NULL;
    for (size_t i = 0; i < ROWS; i++)
        for (int purpose = LLMGW_PURPOSE_ANY; purpose <= LLMGW_PURPOSE_DOCUMENT; purpose++) {
            char model[80];
            snprintf(model, sizeof model, "%s/%s", rows[i].name, rows[i].model);
            llmgw_embed_request request = asks(model, texts, N);
            request.purpose = (llmgw_purpose)purpose;
            request.dimensions = 256;
            llmgw_vectors *v = llmgw_embed(gw, &request);
            if (v->error.code) fail_msg("%s: %s", model, v->error.text);
            assert_true(v->count == N && v->dim == 256);
            assert_int_equal(v->attempts, rows[i].requests);
            assert_true(v->usage.known && v->usage.input > N);
            assert_int_equal(v->usage.estimated, !strcmp(rows[i].name, "gemini"));
            for (int k = 0; first && k < N; k += 31)
                assert_true(cosine(v, (size_t)k, first, (size_t)k) > 0.9999);
            if (!first)
                first = v;
            else
                llmgw_vectors_free(v);
        }
    llmgw_vectors_free(first);
    llmgw_close(gw);
}

/* A request of each part is signed; a wrong key is refused. */
static void bedrock_signs(void **state) {
    static const char *const texts[] = {"one", "t\xC3\xBC", "three"};
    static const char *const models[] = {"bedrock/amazon.titan-embed-text-v2:0",
                                         "bedrock/cohere.embed-english-v3"};
    for (int wrong = 0; wrong < 2; wrong++) {
        char url[128];
        llmgw_options options = t_calm();
        llmgw_provider bedrock = t_provider(&provider, "bedrock", NULL, "", NULL, url);
        bedrock.region = "eu-central-1";
        bedrock.access_key = ACCESS;
        bedrock.secret_key = wrong ? "another/secret+key" : SECRET;
        provider_rule(&provider, "{\"aws\":{\"access\":\"" ACCESS "\",\"secret\":\"" SECRET
                                 "\",\"region\":\"eu-central-1\"}}");
        options.providers = &bedrock;
        options.provider_count = 1;
        options.no_environment = true;
        llmgw *gw = llmgw_open(&options, NULL);
        assert_non_null(gw);
        for (size_t m = 0; m < 2; m++) {
            llmgw_embed_request request = asks(models[m], texts, 3);
            llmgw_vectors *v = llmgw_embed(gw, &request);
            expect(v, wrong ? LLMGW_E_AUTH : LLMGW_OK, NULL);
            if (!wrong) assert_true(v->count == 3 && v->usage.known && !v->usage.estimated);
            llmgw_vectors_free(v);
        }
        llmgw_close(gw);
    }
}

/* ---- money ---- */

typedef struct Rows {
    int rows, tagged;
    int64_t pico, input;
    char key[65], model[64];
} Rows;

static bool take_row(const llmgw_ledger_row *row, void *user) {
    Rows *rows = (Rows *)user;
    rows->rows++;
    rows->tagged += row->tag_count == 1 && !strcmp(row->tags[0], "bulk");
    rows->pico += row->cost.pico_usd;
    rows->input += row->usage.input;
    assert_int_equal(row->usage.output, 0);
    snprintf(rows->key, sizeof rows->key, "%s", row->key);
    snprintf(rows->model, sizeof rows->model, "%s", row->model);
    return true;
}

static void costs_count(void **state) {
    enum { N = 40 };
    static const char *texts[N];
    static const char *const tags[] = {"bulk"}, *const models[] = {"e"};
    char dir[] = "/tmp/llmgw-embed-XXXXXX", secret[LLMGW_KEY_TEXT];
    for (int i = 0; i < N; i++) texts[i] = "a text of some words for the ledger";
    assert_non_null(mkdtemp(dir));
    llmgw_options options = t_calm();
    char url[128];
    llmgw_provider qwen = t_provider(&provider, "qwen", NULL, "/v1", OPENAI_KEY, url);
    options.providers = &qwen;
    options.provider_count = 1;
    options.store.path = dir;
    options.config_json = "{\"models\":{\"e\":{\"provider\":\"qwen\",\"model\":\"e-1\","
                          "\"price\":{\"input\":100,\"output\":0}}},"
                          "\"budgets\":{\"bulk\":{\"tag\":\"bulk\",\"total_usd\":0.1}}}";
    llmgw *gw = t_open(&provider, &options);
    llmgw_key key;
    llmgw_error error;
    memset(&key, 0, sizeof key);
    key.name = "team";
    key.models = models;
    key.model_count = 1;
    key.rpm = 2;
    key.concurrency = 1; /* of llmgw_embed: its four requests go together all the same */
    if (llmgw_key_create(gw, &key, secret, &error)) fail_msg("%s", error.text);
    llmgw_embed_request request = asks("e", texts, N);
    request.tags = tags;
    request.tag_count = 1;
    request.key = secret;
    llmgw_vectors *v = llmgw_embed(gw, &request);
    expect(v, LLMGW_OK, NULL);
    assert_int_equal(v->attempts, 4);
    assert_int_equal(v->cost.pico_usd, v->usage.input * 100000000);
    assert_int_equal(llmgw_flush(gw), LLMGW_OK);
    Rows rows;
    memset(&rows, 0, sizeof rows);
    assert_int_equal(llmgw_ledger_query(gw, NULL, take_row, &rows), 4);
    assert_int_equal(rows.tagged, 4);
    assert_int_equal(rows.pico, v->cost.pico_usd);
    assert_int_equal(rows.input, v->usage.input);
    assert_string_equal(rows.key, "team");
    assert_string_equal(rows.model, "e-1");
    llmgw_vectors_free(v);
    size_t bearers = 0;
    for (size_t i = 0; i < LLMGWI_ENGINE_CHAINS; i++)
        for (const llmgwi_engine_bearer *bearer = gw->bearers[i]; bearer; bearer = bearer->next, bearers++)
            assert_int_equal(bearer->limits.in_flight, 0); /* given back once, not by each request */
    assert_int_equal(bearers, 1);
    request.model = "openai/other";
    v = llmgw_embed(gw, &request);
    expect(v, LLMGW_E_FORBIDDEN, NULL);
    llmgw_vectors_free(v);
    request.model = "e";
    v = llmgw_embed(gw, &request);
    expect(v, LLMGW_OK, NULL);
    llmgw_vectors_free(v);
    v = llmgw_embed(gw, &request); /* the third of a minute */
    expect(v, LLMGW_E_LIMIT, "rpm");
    llmgw_vectors_free(v);
    request.key = NULL;
    v = llmgw_embed(gw, &request);
    for (int i = 0; i < 5 && !v->error.code; i++) {
        llmgw_vectors_free(v);
        v = llmgw_embed(gw, &request);
    }
    expect(v, LLMGW_E_BUDGET, "bulk");
    llmgw_vectors_free(v);
    llmgw_close(gw);
    t_remove_tree(dir);
}

/* Limits of the provider hold: with a concurrency of one, parts go one after the other. */
static void limits_hold(void **state) {
    enum { N = 30 };
    static const char *texts[N];
    for (int i = 0; i < N; i++) texts[i] = "text";
    llmgw_options options = t_calm();
    char url[128];
    llmgw_provider qwen = t_provider(&provider, "qwen", NULL, "/v1", OPENAI_KEY, url);
    qwen.concurrency = 1;
    options.providers = &qwen;
    options.provider_count = 1;
    llmgw *gw = t_open(&provider, &options);
    provider_model_rule(&provider, "e", "\"delay_ms\":30");
    llmgw_embed_request request = asks("qwen/e", texts, N);
    llmgw_vectors *v = llmgw_embed(gw, &request);
    expect(v, LLMGW_OK, NULL);
    assert_int_equal(v->attempts, 3);
    assert_int_equal(provider_count(&provider, "max_open"), 1);
    llmgw_vectors_free(v);
    llmgw_close(gw);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_each_dialect),
        cmocka_unit_test(reads_each_dialect),
        cmocka_unit_test(names_what_is_wrong),
        cmocka_unit_test(caps_hold),
        cmocka_unit_test(recorded_replies),
        cmocka_unit_test_setup(bad_utf8_names_the_text, reset),
        cmocka_unit_test_setup(one_text, reset),
        cmocka_unit_test_setup(many_texts, reset),
        cmocka_unit_test_setup(one_failure_fails_all, reset),
        cmocka_unit_test_setup(fails_over_to_the_same_model_only, reset),
        cmocka_unit_test_setup(refuses, reset),
        cmocka_unit_test_setup(a_wrong_count_is_the_providers_fault, reset),
        cmocka_unit_test_setup(the_deadline_is_for_all, reset),
        cmocka_unit_test_setup(each_provider, reset),
        cmocka_unit_test_setup(bedrock_signs, reset),
        cmocka_unit_test_setup(costs_count, reset),
        cmocka_unit_test_setup(limits_hold, reset),
    };
    const char *only = getenv("ONLY");
    if (only) cmocka_set_test_filter(only);
    return cmocka_run_group_tests_name("embed", tests, group_start, group_stop);
}
