/* A configuration's text to a checked table.
     make build/fuzz/fuzz_config && build/fuzz/fuzz_config build/fuzz/corpus-config tests/corpus/config
   Input: the text, up to a NUL. What must hold:
     - it opens, or there is an error with a text that can be shown
     - the error does not hold the key, wherever "key" or a header of the text gives one
     - the key is redacted from any text afterwards; all memory is given back */
#define LLMGW_IMPLEMENTATION
#include "llmgw.h"
#include "fuzz_main.h"

#define SECRET "SECRET-fuzz-0123"

static size_t back_over(const char *text, size_t at, const char *chars) {
    while (at && strchr(chars, text[at - 1])) at--;
    return at;
}

/* Does every SECRET stand in the value of "key" or of the header "X-Key"? Only then it is known to be one. */
static bool secret_is_key(const char *text, bool *any) {
    *any = false;
    for (const char *at = text; (at = strstr(at, "SECRET")) != NULL; at += strlen(SECRET)) {
        size_t n = (size_t)(at - text);
        if (n == 0 || text[n - 1] != '"' || strncmp(at, SECRET, strlen(SECRET)) != 0) return false;
        n = back_over(text, n - 1, " \t\r\n");
        if (n == 0 || text[n - 1] != ':') return false;
        n = back_over(text, n - 1, " \t\r\n");
        bool key = n >= 5 && memcmp(text + n - 5, "\"key\"", 5) == 0;
        bool header = n >= 7 && memcmp(text + n - 7, "\"X-Key\"", 7) == 0;
        if (!key && !header) return false;
        *any = true;
    }
    return true;
}

static void check_error(const llmgw_error *error, bool secret) {
    FUZZ_CHECK(error->code == LLMGW_E_CONFIG || error->code == LLMGW_E_INSECURE ||
               error->code == LLMGW_E_ARGUMENT);
    FUZZ_CHECK(error->text[0] && memchr(error->text, 0, sizeof error->text));
    for (size_t i = 0, n = strlen(error->text), step; i < n; i += step)
        FUZZ_CHECK((step = fuzz_utf8(error->text + i, n - i)) > 0 && (unsigned char)error->text[i] >= ' ');
    if (secret) FUZZ_CHECK(!strstr(error->text, "SECRET"));
}

static void check_config(const llmgwi_config *config) {
    for (size_t i = 0; i < config->provider_count; i++) {
        const llmgwi_config_provider *provider = config->providers[i];
        FUZZ_CHECK(provider->name && provider->dialect && provider->url && provider->index == i);
        FUZZ_CHECK(provider->header_count <= LLMGWI_CONFIG_HEADERS);
        for (size_t h = 0; h < provider->header_count; h++) {
            FUZZ_CHECK(strlen(provider->headers[h].line) + 1 <= provider->headers[h].size);
            FUZZ_CHECK(!strpbrk(provider->headers[h].line, "\r\n"));
        }
    }
    for (size_t i = 0; i < config->model_count; i++)
        FUZZ_CHECK(config->models[i]->target.provider && config->models[i]->target.model &&
                   config->models[i]->target.dialect);
    for (size_t i = 0; i < config->route_count; i++) {
        FUZZ_CHECK(config->routes[i]->target_count <= LLMGWI_CONFIG_ROUTE_TARGETS);
        for (size_t t = 0; t < config->routes[i]->target_count; t++)
            FUZZ_CHECK(config->routes[i]->targets[t].provider && config->routes[i]->targets[t].model &&
                       config->routes[i]->targets[t].dialect);
    }
    FUZZ_CHECK(config->options.unsupported <= LLMGW_UNSUPPORTED_REFUSE);
    for (size_t i = 0; i < config->capability_count; i++) {
        const llmgwi_config_capability *row = &config->capabilities[i];
        FUZZ_CHECK(row->provider[0] && row->model[0] && !strpbrk(row->model, " \n"));
        FUZZ_CHECK(!row->like == !row->like_model);
        FUZZ_CHECK(llmgwi_dialect_quirks_over(~(uint64_t)0, row->quirks) != 0 || !row->quirks);
    }
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_config_durables); i++) {
        const llmgwi_config_durable *row = &llmgwi_config_durables[i];
        const char *options = (const char *)&config->options;
        if (row->type == LLMGWI_CONFIG_TEXT || row->type == LLMGWI_CONFIG_BOOL ||
            row->type == LLMGWI_CONFIG_SEAL)
            continue;
        double value = llmgwi_config_durable_get(row, options);
        bool none = !llmgwi_config_durable_set(row, options);
        FUZZ_CHECK(none || (value >= row->low && value <= row->high) || (row->off && value == LLMGW_OFF));
    }
    FUZZ_CHECK(!config->options.cache.on || config->options.store.path);
    for (size_t i = 0; i < config->secret_count; i++) {
        char text[256];
        const char *secret = config->secrets[i].line;
        size_t n = strlen(secret);
        if (n < LLMGWI_CONFIG_SECRET_MIN || n > 64) continue;
        snprintf(text, sizeof text, "a%sb%s%s %.*s", secret, secret, secret, (int)(n - 1), secret);
        llmgwi_config_redact(config, text);
        FUZZ_CHECK(!strstr(text, secret) || strstr("a[key]b[key][key] [key]", secret));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_heap heap = {0};
    llmgwi_base_mem mem = {fuzz_alloc, &heap};
    llmgwi_config config;
    llmgw_options options;
    llmgw_error error;
    bool secret;
    char *text = (char *)malloc(size + 1);
    FUZZ_CHECK(text);
    if (size) memcpy(text, data, size);
    text[size] = 0;
    memset(&options, 0, sizeof options);
    memset(&error, 0, sizeof error);
    options.no_environment = true;
    options.config_json = text;
    bool hidden = secret_is_key(text, &secret) && secret;
    if (llmgwi_config_open(&config, &mem, &options, &error)) {
        FUZZ_CHECK(error.code == LLMGW_OK);
        check_config(&config);
    } else {
        check_error(&error, hidden);
    }
    llmgwi_config_close(&config);
    FUZZ_CHECK(heap.live == 0);
    free(text);
    return 0;
}
