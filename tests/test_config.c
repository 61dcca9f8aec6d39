/* Descriptions, file and environment to one checked table; keys and where they may go. */
#include "unit.h"

#include <math.h>
#include <strings.h>
#include <sys/stat.h>

static char directory[64]; /* for files of these tests */

static int clean_environment(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_dialect_knowns); i++)
        unsetenv(llmgwi_dialect_knowns[i].key_var);
    static const char *const more[] = {"CO_API_KEY", "COHERE_API_KEY", "AZURE_OPENAI_ENDPOINT",
                                       "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(more); i++) unsetenv(more[i]);
    unsetenv("OLLAMA_HOST");
    unsetenv("UNIT_KEY");
    unsetenv("UNIT_NONE");
    unsetenv("UNIT_NO");
    unsetenv("AWS_REGION");
    unsetenv("AWS_DEFAULT_REGION");
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    unsetenv("AWS_SESSION_TOKEN");
    return 0;
}

static int make_directory(void **state) {
    snprintf(directory, sizeof directory, "/tmp/llmgw_unit_XXXXXX");
    return mkdtemp(directory) ? clean_environment(state) : -1;
}

static int remove_directory(void **state) { return rmdir(directory); }

static llmgw_options from_json(const char *json) {
    llmgw_options options;
    memset(&options, 0, sizeof options);
    options.config_json = json ? unit_quoted(json) : NULL;
    options.no_environment = true;
    return options;
}

/* Opens a good configuration; llmgwi_config_close it. */
static void open_good(llmgwi_config *config, const llmgw_options *options) {
    llmgw_error error;
    memset(&error, 0, sizeof error);
    if (!llmgwi_config_open(config, &unit_mem, options, &error)) {
        llmgwi_config_close(config);
        fail_msg("refused: %s", error.text);
    }
}

static llmgw_error open_bad(const llmgw_options *options) {
    llmgwi_config config;
    llmgw_error error;
    memset(&error, 0, sizeof error);
    bool good = llmgwi_config_open(&config, &unit_mem, options, &error);
    llmgwi_config_close(&config);
    assert_false(good);
    assert_true(unit_is_utf8(error.text));
    return error;
}

static void expect_bad(const char *json, const char *part) {
    llmgw_options options = from_json(json);
    llmgw_error error = open_bad(&options);
    assert_int_equal(error.code, LLMGW_E_CONFIG);
    unit_has(error.text, part);
}

static const llmgwi_config_provider *provider_of(const llmgwi_config *config, const char *name) {
    return llmgwi_config_provider_find(config, name, strlen(name));
}

static const char *value_of(const char *line, const char *name) {
    return line && strncmp(line, name, strlen(name)) == 0 ? line + strlen(name) + 2 : NULL;
}

/* The value of a provider's header, with its first key; NULL: it has none of this name. */
static const char *header_of(const llmgwi_config_provider *provider, const char *name) {
    const char *value = value_of(provider->keys[0].line, name);
    for (size_t i = 0; i < provider->header_count && !value; i++)
        value = value_of(provider->headers[i].line, name);
    return value;
}

/* ---- the file ---- */

static const char design_file[] =
    "{'providers':{"
    "  'openai':{'dialect':'openai','key':'env:UNIT_KEY'},"
    "  'claude':{'dialect':'anthropic','key':'sk-ant-1','rpm':4000,'tpm':400000,'concurrency':64},"
    "  'local':{'dialect':'openai','url':'http://127.0.0.1:8080/v1/','region':'eu'}},"
    " 'models':{'gpt-4o-mini':{'provider':'openai','rpd':7},"
    "  'sonnet':{'provider':'claude','model':'claude-sonnet-4-5',"
    "   'price':{'input':3.0,'output':15.0,'cached':0.3,'cache_write':3.75,'cache_write_1h':6}}},"
    " 'routes':{'chat':{'how':'fallback','try':['sonnet','gpt-4o-mini','local/llama'],'hedge':'p95'},"
    "  'urgent':{'how':'race','try':['sonnet','gpt-4o-mini','local/llama'],'width':3}},"
    " 'ca_file':'/dev/null','deadline_ms':5,'connect_ms':-1,'max_attempts':64,'max_reply_bytes':2048}";

static void test_design_file(void **state) {
    llmgwi_config config;
    llmgw_options options = from_json(design_file);
    setenv("UNIT_KEY", "sk-openai-1", 1);
    open_good(&config, &options);
    assert_int_equal(config.provider_count, 3);
    assert_string_equal(header_of(provider_of(&config, "openai"), "Authorization"), "Bearer sk-openai-1");
    assert_string_equal(header_of(provider_of(&config, "claude"), "x-api-key"), "sk-ant-1");
    assert_string_equal(header_of(provider_of(&config, "claude"), "anthropic-version"), "2023-06-01");
    assert_string_equal(provider_of(&config, "claude")->url, "https://api.anthropic.com/v1");
    assert_string_equal(provider_of(&config, "local")->url, "http://127.0.0.1:8080/v1");
    assert_false(provider_of(&config, "local")->keyed);
    assert_int_equal(provider_of(&config, "claude")->limits.rpm, 4000);
    assert_int_equal(provider_of(&config, "claude")->limits.concurrency, 64);
    assert_string_equal(provider_of(&config, "local")->region, "eu");
    assert_int_equal(config.route_count, 2);
    assert_int_equal(config.routes[0]->hedge_ms, LLMGW_P95);
    assert_int_equal(config.routes[1]->width, 3);
    const llmgwi_config_target *targets = config.routes[0]->targets;
    assert_int_equal(config.routes[0]->target_count, 3);
    assert_string_equal(targets[0].model, "claude-sonnet-4-5");
    assert_true(targets[0].price.output.set && targets[0].price.output.value == 15);
    assert_string_equal(targets[1].model, "gpt-4o-mini");
    assert_string_equal(targets[2].model, "llama");
    assert_ptr_equal(targets[2].provider, provider_of(&config, "local"));
    assert_string_equal(config.ca_file, "/dev/null");
    assert_int_equal(config.options.deadline_ms, 5);
    assert_int_equal(config.options.connect_ms, LLMGW_OFF);
    assert_int_equal(config.options.first_token_ms, 60000);
    assert_int_equal(config.options.max_attempts, 64);
    assert_int_equal(config.options.max_reply_bytes, 2048);
    llmgwi_config_close(&config);
}

static void test_wrong_types(void **state) {
    static const char *const rows[][2] = {
        {"[]", "expected an object"},
        {"{'providers':[]}", "providers: expected an object"},
        {"{'providers':{'a':1}}", "providers.a: expected an object"},
        {"{'providers':{'a':{'dialect':1}}}", "providers.a.dialect: expected a string"},
        {"{'providers':{'a':{'url':null}}}", "providers.a.url: expected a string"},
        {"{'providers':{'a':{'key':{}}}}", "providers.a.key: expected a string"},
        {"{'providers':{'a':{'headers':['x']}}}", "providers.a.headers: expected an object"},
        {"{'providers':{'a':{'headers':{'x':1}}}}", "providers.a.headers"},
        {"{'models':[]}", "models: expected an object"},
        {"{'models':{'m':'x'}}", "models.m: expected an object"},
        {"{'models':{'m':{'provider':[]}}}", "models.m.provider: expected a string"},
        {"{'models':{'m':{'model':1}}}", "models.m.model: expected a string"},
        {"{'models':{'m':{'price':3}}}", "models.m.price: expected an object"},
        {"{'models':{'m':{'price':{'input':'3'}}}}", "models.m.price.input: expected a number"},
        {"{'models':{'m':{'price':{'output':null}}}}", "models.m.price.output: expected a number"},
        {"{'models':{'m':{'price':{'cached':[]}}}}", "models.m.price.cached: expected a number"},
        {"{'models':{'m':{'price':{'cache_write':true}}}}", "models.m.price.cache_write: expected a number"},
        {"{'models':{'m':{'price':{'cache_write_1h':{}}}}}",
         "models.m.price.cache_write_1h: expected a number"},
        {"{'routes':'x'}", "routes: expected an object"},
        {"{'routes':{'r':[]}}", "routes.r: expected an object"},
        {"{'routes':{'r':{'how':1}}}", "routes.r.how: expected a string"},
        {"{'routes':{'r':{'try':'x'}}}", "routes.r.try: expected a list"},
        {"{'routes':{'r':{'try':[1]}}}", "routes.r.try"},
        {"{'ca_file':1}", "ca_file: expected a string"},
        {"{'deadline_ms':'5'}", "deadline_ms: expected a number"},
        {"{'deadline_ms':1.5}", "deadline_ms: expected a whole number"},
        {"{'deadline_ms':1e20}", "deadline_ms: expected a whole number"},
        {"{'deadline_ms':99999999999}", "deadline_ms: expected a whole number"},
        {"{'max_reply_bytes':-1}", "max_reply_bytes: expected a number of bytes"},
        {"{'max_reply_bytes':'1 MiB'}", "max_reply_bytes: expected a number"},
        {"{'max_json_depth':[]}", "max_json_depth: expected a number"},
        {"{'providers':{'a':{'keys':'k'}}}", "providers.a.keys: expected a list of strings"},
        {"{'providers':{'a':{'keys':[1]}}}", "providers.a.keys: expected a string"},
        {"{'providers':{'a':{'region':1}}}", "providers.a.region: expected a string"},
        {"{'providers':{'a':{'rpm':'5'}}}", "providers.a.rpm: expected a number"},
        {"{'providers':{'a':{'tpm':1.5}}}", "providers.a.tpm: expected a whole number"},
        {"{'providers':{'a':{'rpd':99999999999999999999}}}", "providers.a.rpd: expected a whole number"},
        {"{'providers':{'a':{'concurrency':null}}}", "providers.a.concurrency: expected a number"},
        {"{'providers':{'a':{'concurrency':99999999999}}}", "providers.a.concurrency: expected a whole"},
        {"{'models':{'m':{'rpm':[]}}}", "models.m.rpm: expected a number"},
        {"{'models':{'m':{'tpm':{}}}}", "models.m.tpm: expected a number"},
        {"{'models':{'m':{'rpd':true}}}", "models.m.rpd: expected a number"},
        {"{'models':{'m':{'concurrency':0.5}}}", "models.m.concurrency: expected a whole number"},
        {"{'routes':{'r':{'weights':1}}}", "routes.r.weights: expected a list of numbers"},
        {"{'routes':{'r':{'weights':[1,'2']}}}", "routes.r.weights: expected a list of numbers"},
        {"{'routes':{'r':{'weights':[1,}}}", "routes.r.weights: "},
        {"{'routes':{'r':{'width':'2'}}}", "routes.r.width: expected a number"},
        {"{'routes':{'r':{'race_by':1}}}", "routes.r.race_by: expected a string"},
        {"{'routes':{'r':{'hedge':[]}}}", "routes.r.hedge: expected milliseconds or \"p95\""},
        {"{'routes':{'r':{'hedge':'p99'}}}", "routes.r.hedge: expected milliseconds or \"p95\""},
        {"{'routes':{'r':{'hedge':-2}}}", "routes.r.hedge: expected a whole number"},
        {"{'routes':{'r':{'hedge_percent':'5'}}}", "routes.r.hedge_percent: expected a number"},
        {"{'routes':{'r':{'standby':true}}}", "routes.r.standby: expected a number"},
        {"{'routes':{'r':{'valid':'schema'}}}", "routes.r.valid: expected a list of strings"},
        {"{'routes':{'r':{'valid':[4]}}}", "routes.r.valid: expected a string"},
        {"{'routes':{'r':{'valid':['not_empty','nice']}}}",
         "routes.r.valid: expected not_empty, not_refused"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) expect_bad(rows[i][0], rows[i][1]);
}

/* Every field of every table: a wrong type names its path; so does an unknown one beside it. */
static void test_all_fields(void **state) {
    static const struct {
        const llmgwi_config_field *fields;
        const char *open, *close, *path;
    } tables[] = {{llmgwi_config_top_fields, "{", "}", ""},
                  {llmgwi_config_provider_fields, "{'providers':{'a':{", "}}}", "providers.a."},
                  {llmgwi_config_model_fields, "{'models':{'a':{", "}}}", "models.a."},
                  {llmgwi_config_price_fields, "{'models':{'a':{'price':{", "}}}}", "models.a.price."},
                  {llmgwi_config_route_fields, "{'routes':{'a':{", "}}}", "routes.a."},
                  {llmgwi_config_store_fields, "{'store':{", "}}", "store."},
                  {llmgwi_config_cache_fields, "{'cache':{", "}}", "cache."},
                  {llmgwi_config_ledger_fields, "{'ledger':{", "}}", "ledger."},
                  {llmgwi_config_budget_fields, "{'budget':{", "}}", "budget."},
                  {llmgwi_config_budget_fields, "{'budgets':{'a':{", "}}}", "budgets.a."}};
    char json[512], path[128];
    for (size_t t = 0; t < LLMGWI_BASE_COUNT(tables); t++)
        for (const llmgwi_config_field *field = tables[t].fields; field->name; field++) {
            snprintf(json, sizeof json, "%s'%s':%s%s", tables[t].open, field->name,
                     field->type == LLMGWI_CONFIG_BOOL ? "0" : "false", tables[t].close);
            snprintf(path, sizeof path, "%s%s: %s", tables[t].path, field->name,
                     field->type == LLMGWI_CONFIG_LATER ? "not available in this version" : "expected ");
            expect_bad(json, path);
            snprintf(json, sizeof json, "%s'%sx':false%s", tables[t].open, field->name, tables[t].close);
            snprintf(path, sizeof path, "%s%sx: unknown field", tables[t].path, field->name);
            expect_bad(json, path);
        }
}

static void test_later_fields(void **state) {
    static const char *const rows[][2] = {
        {"{'providers':{'l':{'tags':['onprem']}}}", "providers.l.tags: not available"},
        {"{'models':{'m':{'quality':0.9}}}", "models.m.quality: not available"},

    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) expect_bad(rows[i][0], rows[i][1]);
}

#define LOCAL "'providers':{'l':{'dialect':'openai','url':'http://127.0.0.1:1','key':''}}"
#define ROUTE(fields) "{" LOCAL ",'routes':{'r':{'try':['l/x','l/y','l/z']," fields "}}}"
#define PROVIDER(fields) "{'providers':{'p':{'dialect':'openai'," fields "}}}"
#define MODEL(fields) "{" LOCAL ",'models':{'m':{'provider':'l'," fields "}}}"

static void test_wrong_values(void **state) {
    static const char *const rows[][2] = {
        {"{'providers':{'nobody':{}}}", "providers.nobody.dialect: required"},
        {"{'providers':{'x':{'dialect':'cobol'}}}", "providers.x.dialect: unknown"},
        {"{'providers':{'':{'dialect':'openai'}}}", "name: expected"},
        {"{'providers':{'a b':{'dialect':'openai'}}}", "providers.a b.name: expected"},
        {"{'providers':{'a/b':{'dialect':'openai'}}}", "name: expected"},
        {"{'models':{'m':{}}}", "models.m.provider: required"},
        {"{'models':{'m':{'provider':'nobody'}}}", "models.m.provider: no such provider"},
        {"{" LOCAL ",'models':{'a/b':{'provider':'l'}}}", "models.a/b.name: expected"},
        {"{" LOCAL ",'models':{'a b':{'provider':'l'}}}", "name: expected"},
        {"{" LOCAL ",'models':{'m':{'provider':'l','price':{'input':-1}}}}", "models.m.price: expected USD"},
        {"{" LOCAL ",'models':{'m':{'provider':'l','price':{'cached':1e7}}}}",
         "models.m.price: expected USD"},
        {"{" LOCAL ",'models':{'m':{'provider':'l','price':{'output':1e999}}}}", "models.m.price"},
        {"{'routes':{'r':{}}}", "routes.r.try: expected a list"},
        {"{'routes':{'r':{'try':[]}}}", "routes.r.try: expected a list"},
        {"{'routes':{'r':{'try':['m']}}}", "routes.r.try[0]: no such alias"},
        {"{" LOCAL ",'routes':{'r':{'try':['l/x','l/','l']}}}", "routes.r.try[1]: no such alias"},
        {"{" LOCAL ",'routes':{'r':{'try':['l/x','nobody/x']}}}", "routes.r.try[1]"},
        {PROVIDER("'keys':[]"), "providers.p.keys: expected a list of 1 to 16 keys"},
        {PROVIDER("'key':'a','keys':['b']"), "providers.p.keys: not together with key"},
        {PROVIDER("'key':'','keys':['b']"), "providers.p.keys: not together with key"},
        {PROVIDER("'keys':['a','']"), "providers.p.keys[1]: expected \"env:NAME\" or a key"},
        {PROVIDER("'keys':['env:']"), "providers.p.keys[0]: expected \"env:NAME\" or a key"},
        {PROVIDER("'keys':['a','b','a']"), "providers.p.keys[2]: the same as one before"},
        {PROVIDER("'keys':['env:UNIT_NONE','env:UNIT_NONE']"), "providers.p.keys[1]: the same as one before"},
        {PROVIDER("'keys':['unit-key','env:UNIT_KEY']"), "providers.p.keys[1]: the same as one before"},
        {PROVIDER("'keys':['a','b\\n']"), "providers.p.keys[1]: holds a control character"},
        {PROVIDER("'region':''"), "providers.p.region: expected 1 to 64 characters"},
        {PROVIDER("'region':'a b'"), "providers.p.region: expected 1 to 64 characters"},
        {PROVIDER("'rpm':-1"), "providers.p.rpm: expected 1 to 1,000,000,000,000"},
        {PROVIDER("'rpm':1000000000001"), "providers.p.rpm: expected 1 to 1,000,000,000,000"},
        {PROVIDER("'tpm':1000000000001"), "providers.p.tpm: expected 1 to 1,000,000,000,000"},
        {PROVIDER("'rpd':1000000000001"), "providers.p.rpd: expected 1 to 1,000,000,000,000"},
        {PROVIDER("'concurrency':-1"), "providers.p.concurrency: expected 1 to 1,000,000, or 0"},
        {PROVIDER("'concurrency':1000001"), "providers.p.concurrency: expected 1 to 1,000,000, or 0"},
        {MODEL("'rpm':1000000000001"), "models.m.rpm: expected 1 to"},
        {MODEL("'tpm':-5"), "models.m.tpm: expected 1 to"},
        {MODEL("'rpd':1000000000001"), "models.m.rpd: expected 1 to"},
        {MODEL("'concurrency':1000001"), "models.m.concurrency: expected 1 to 1,000,000"},
        {ROUTE("'how':'fastests'"),
         "routes.r.how: expected fallback, race, weighted, least_busy, fastest or cheapest"},
        {ROUTE("'weights':[1,2,3]"), "routes.r.weights: only with \"how\" weighted"},
        {ROUTE("'weights':[]"), "routes.r.weights: only with \"how\" weighted"},
        {ROUTE("'how':'weighted','weights':[]"), "routes.r.weights: expected one for each target"},
        {ROUTE("'how':'weighted','weights':[1,2]"), "routes.r.weights: expected one for each target"},
        {ROUTE("'how':'weighted','weights':[1,2,3,4]"), "routes.r.weights: expected one for each target"},
        {ROUTE("'how':'weighted','weights':[1,2,0]"), "routes.r.weights: expected numbers over 0"},
        {ROUTE("'how':'weighted','weights':[1,-2,1]"), "routes.r.weights: expected numbers over 0"},
        {ROUTE("'how':'weighted','weights':[1e999,2,1]"), "routes.r.weights: expected numbers over 0"},
        {ROUTE("'width':2"), "routes.r.width: only with \"how\" race"},
        {ROUTE("'how':'race','width':1"), "routes.r.width: expected 2 to 16"},
        {ROUTE("'how':'race','width':-1"), "routes.r.width: expected 2 to 16"},
        {ROUTE("'how':'race','width':4"), "routes.r.width: expected 2 to 16, and not more than there are"},
        {"{" LOCAL ",'routes':{'r':{'how':'race','try':['l/x']}}}", "routes.r.try: a race needs two targets"},
        {ROUTE("'race_by':'complete'"), "routes.r.race_by: only with \"how\" race"},
        {ROUTE("'how':'race','race_by':'last_text'"), "routes.r.race_by: expected first_text or complete"},
        {ROUTE("'how':'race','hedge':100"), "routes.r.hedge: not in a race"},
        {"{" LOCAL ",'routes':{'r':{'try':['l/x'],'hedge':'p95'}}}", "routes.r.hedge: needs a second target"},
        {ROUTE("'hedge_percent':-1"), "routes.r.hedge_percent: expected 1 to 100"},
        {ROUTE("'hedge_percent':101"), "routes.r.hedge_percent: expected 1 to 100"},
        {ROUTE("'standby':-1"), "routes.r.standby: expected 1 to 8"},
        {ROUTE("'standby':9"), "routes.r.standby: expected 1 to 8"},
        {ROUTE("'standby':3"), "routes.r.standby: expected fewer than there are targets"},
        {"{" LOCAL ",'routes':{'r':{'try':['l/x'],'standby':1}}}", "routes.r.standby: expected fewer"},
        {"{'routes':{'r/s':{'try':['x']}}}", "name: expected"},
        {"{" LOCAL ",'models':{'x':{'provider':'l'}},'routes':{'x':{'try':['l/a']}}}",
         "routes.x.name: also the name of a model"},
        {"{'providers':{'l':{'dialect':'open\\u0000ai'}}}", "providers.l.dialect: holds a NUL"},
    };
    setenv("UNIT_KEY", "unit-key", 1);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) expect_bad(rows[i][0], rows[i][1]);
}

static void test_not_json(void **state) {
    static const char *const rows[][2] = {
        {"", "configuration: expected an object"},
        {"{", "at byte 1"},
        {"{'providers':{}}x", "at byte 16"},
        {"{'providers':{'a':{'dialect':'openai',}}}", "at byte"},
        {"{'providers':{'a':{'dialect':'x\xFF'}}}", "providers.a.dialect: bad UTF-8"},
        {"// no comments\n{}", "configuration: expected an object"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) expect_bad(rows[i][0], rows[i][1]);
}

static void test_duplicates(void **state) {
    expect_bad("{'providers':{'a':{'dialect':'openai'},'a':{'dialect':'openai'}}}",
               "providers.a.name: defined twice");
    expect_bad("{" LOCAL ",'models':{'m':{'provider':'l'},'m':{'provider':'l'}}}",
               "models.m.name: defined twice");
    expect_bad("{" LOCAL ",'routes':{'r':{'try':['l/a']},'r':{'try':['l/a']}}}",
               "routes.r.name: defined twice");
    llmgw_provider providers[2];
    llmgw_options options = from_json(NULL);
    memset(providers, 0, sizeof providers);
    providers[0].name = providers[1].name = "openai";
    options.providers = providers;
    options.provider_count = 2;
    llmgw_error error = open_bad(&options);
    unit_has(error.text, "options.providers[1].name: defined twice");
}

/* A name longer than any path has room for is an error, at every place. */
static void test_long_names(void **state) {
    static const char *const shapes[] = {"{'providers':{'%s':{'key':1}}}",
                                         "{'providers':{'%s':{'dialect':'openai'}}}",
                                         "{'models':{'%s':{'price':{'input':'x'}}}}",
                                         "{'routes':{'%s':{'try':[1]}}}",
                                         "{'%s':1}",
                                         "{'providers':{'a':{'%s':1}}}"};
    static char name[4000], json[8000];
    for (size_t n = 60; n<3000; n += n> 230 && n < 270 ? 1 : 97)
        for (size_t i = 0; i < LLMGWI_BASE_COUNT(shapes); i++) {
            memset(name, 'a', n);
            name[n] = 0;
            snprintf(json, sizeof json, shapes[i], name);
            if (n == 60 && i == 1) continue; /* that one is good */
            llmgw_options options = from_json(json);
            assert_int_equal(open_bad(&options).code, LLMGW_E_CONFIG);
        }
}

static void test_name_lengths(void **state) {
    char name[80];
    for (size_t n = 63; n <= 65; n++) {
        llmgw_provider provider;
        llmgw_options options = from_json(NULL);
        llmgwi_config config;
        memset(&provider, 0, sizeof provider);
        memset(name, 'x', n);
        name[n] = 0;
        provider.name = name;
        provider.dialect = "openai";
        options.providers = &provider;
        options.provider_count = 1;
        if (n == 65) {
            unit_has(open_bad(&options).text, "options.providers[0].name: expected [A-Za-z0-9_.-]{1,64}");
            continue;
        }
        open_good(&config, &options);
        llmgwi_config_close(&config);
    }
}

/* ---- C beats file beats environment ---- */

static void test_precedence(void **state) {
    static const char json[] =
        "{'providers':{'openai':{'key':'from-file'},'anthropic':{'key':'file-ant'}},"
        "'models':{'m':{'provider':'openai','model':'file-model'}},"
        "'routes':{'r':{'try':['openai/file','openai/2'],'how':'race','valid':['schema']}},"
        "'deadline_ms':7,'idle_ms':8,'hold_ms':5}";
    static const char *const targets[1] = {"openai/c"};
    llmgw_provider provider;
    llmgw_model model;
    llmgw_route route;
    llmgwi_config config;
    llmgw_options options = from_json(json);
    options.no_environment = false;
    setenv("OPENAI_API_KEY", "from-env", 1);
    setenv("ANTHROPIC_API_KEY", "env-ant", 1);
    setenv("GEMINI_API_KEY", "env-gem", 1);
    memset(&provider, 0, sizeof provider);
    memset(&model, 0, sizeof model);
    memset(&route, 0, sizeof route);
    provider.name = "openai";
    provider.key = "from-c";
    model.name = "m";
    model.provider = "openai";
    model.model = "c-model";
    route.name = "r";
    route.targets = targets;
    route.target_count = 1;
    options.providers = &provider;
    options.models = &model;
    options.routes = &route;
    options.provider_count = options.model_count = options.route_count = 1;
    options.deadline_ms = 9;
    open_good(&config, &options);
    assert_string_equal(header_of(provider_of(&config, "openai"), "Authorization"), "Bearer from-c");
    assert_string_equal(header_of(provider_of(&config, "anthropic"), "x-api-key"), "file-ant");
    assert_string_equal(header_of(provider_of(&config, "gemini"), "x-goog-api-key"), "env-gem");
    assert_string_equal(config.models[0]->target.model, "c-model");
    assert_string_equal(config.routes[0]->targets[0].model, "c");
    assert_int_equal(config.routes[0]->how, LLMGWI_CONFIG_FALLBACK); /* the whole route is C's */
    assert_int_equal(config.routes[0]->valid, 0);
    assert_int_equal(config.options.hold_ms, 5);
    assert_int_equal(config.model_count, 1);
    assert_int_equal(config.route_count, 1);
    assert_int_equal(config.options.deadline_ms, 9);
    assert_int_equal(config.options.idle_ms, 8);
    llmgwi_config_close(&config);
}

static void test_known_names(void **state) {
    static const char *const urls[][3] = {
        {"openai", "https://api.openai.com/v1", "OPENAI_API_KEY"},
        {"anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"},
        {"gemini", "https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY"},
        {"bedrock", "https://bedrock-runtime.eu-west-3.amazonaws.com", "AWS_BEARER_TOKEN_BEDROCK"},
        {"deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY"},
        {"mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"},
        {"qwen", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"},
        {"moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"},
        {"openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"},
        {"portkey", "https://api.portkey.ai/v1", "PORTKEY_API_KEY"},
        {"tokenmix", "https://api.tokenmix.ai/v1", "TOKENMIX_API_KEY"},
        {"ollama", "http://127.0.0.1:11434/v1", "OLLAMA_API_KEY"},
        {"llamacpp", "http://127.0.0.1:8080/v1", "LLAMACPP_API_KEY"},
        {"vllm", "http://127.0.0.1:8000/v1", "VLLM_API_KEY"},
        {"groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"},
        {"xai", "https://api.x.ai/v1", "XAI_API_KEY"},
        {"cohere", "https://api.cohere.com/v2", "COHERE_API_KEY"},
        {"azure", "https://r.openai.azure.com/openai/v1", "AZURE_OPENAI_API_KEY"},
        {"vertex", "https://aiplatform.googleapis.com/v1/projects/p-1/locations/global/publishers/google",
         "CLOUDSDK_AUTH_ACCESS_TOKEN"},
    };
    llmgwi_config config;
    llmgw_options options = from_json(NULL);
    char key[64], want[80];
    assert_int_equal(LLMGWI_BASE_COUNT(urls) + 1,
                     LLMGWI_BASE_COUNT(llmgwi_dialect_knowns)); /* ollama: twice */
    setenv("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com/", 1);
    setenv("GOOGLE_CLOUD_PROJECT", "p-1", 1);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(urls); i++) {
        snprintf(key, sizeof key, "key-of-%s", urls[i][0]);
        setenv(urls[i][2], key, 1);
    }
    options.no_environment = false;
    setenv("AWS_REGION", "eu-west-3", 1);
    open_good(&config, &options);
    assert_int_equal(config.provider_count, LLMGWI_BASE_COUNT(urls));
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(urls); i++) {
        const llmgwi_config_provider *provider = provider_of(&config, urls[i][0]);
        bool bearer = !strstr("anthropic gemini portkey azure", urls[i][0]);
        const char *name = bearer                               ? "Authorization"
                           : strcmp(urls[i][0], "gemini") == 0  ? "x-goog-api-key"
                           : strcmp(urls[i][0], "portkey") == 0 ? "x-portkey-api-key"
                           : strcmp(urls[i][0], "azure") == 0   ? "api-key"
                                                                : "x-api-key";
        assert_string_equal(provider->url, urls[i][1]);
        snprintf(want, sizeof want, "%skey-of-%s", bearer ? "Bearer " : "", urls[i][0]);
        assert_string_equal(header_of(provider, name), want);
        assert_true(provider->keyed && provider->listed);
    }
    llmgwi_config_close(&config);
}

static void test_environment_alone(void **state) {
    llmgwi_config config;
    llmgw_options options = from_json(NULL);
    open_good(&config, &options);
    assert_int_equal(config.provider_count, 0);
    llmgwi_config_close(&config);
    options.no_environment = false;
    setenv("MISTRAL_API_KEY", "k-mistral", 1);
    setenv("OPENAI_API_KEY", "", 1); /* empty is not set */
    open_good(&config, &options);
    assert_int_equal(config.provider_count, 2); /* and a local Ollama, to be looked for */
    assert_true(provider_of(&config, "ollama")->discovered);
    assert_false(provider_of(&config, "mistral")->discovered);
    assert_null(provider_of(&config, "openai"));
    llmgwi_config_close(&config);
}

/* ---- keys ---- */

static void test_keys(void **state) {
    static const struct {
        const char *json, *header; /* of provider p; NULL: none */
        const char *missing;
    } rows[] = {
        {"{'providers':{'p':{'dialect':'openai','key':'sk-1'}}}", "Bearer sk-1", NULL},
        {"{'providers':{'p':{'dialect':'openai','key':'env:UNIT_KEY'}}}", "Bearer sk-unit", NULL},
        {"{'providers':{'p':{'dialect':'openai','key':'env:UNIT_MISSING'}}}", NULL, "UNIT_MISSING"},
        {"{'providers':{'p':{'dialect':'openai','key':''}}}", NULL, NULL}, /* said: none */
        {"{'providers':{'p':{'dialect':'openai','url':'https://h.example/v1'}}}", NULL, NULL},
        {"{'providers':{'p':{'dialect':'openai'}}}", NULL, "OPENAI_API_KEY"},
    };
    setenv("UNIT_KEY", "sk-unit", 1);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_config config;
        llmgw_options options = from_json(rows[i].json);
        open_good(&config, &options);
        const llmgwi_config_provider *p = provider_of(&config, "p");
        const char *header = header_of(p, "Authorization");
        assert_int_equal(header == NULL, rows[i].header == NULL);
        if (header) assert_string_equal(header, rows[i].header);
        assert_int_equal(p->missing == NULL, rows[i].missing == NULL);
        if (p->missing) assert_string_equal(p->missing, rows[i].missing);
        llmgwi_config_close(&config);
    }
    expect_bad("{'providers':{'p':{'dialect':'openai','key':'env:'}}}", "providers.p.key");
}

/* ---- several keys, region, limits ---- */

static void test_several_keys(void **state) {
    llmgwi_config config;
    llmgw_options options =
        from_json("{'providers':{'a':{'dialect':'openai','keys':['env:UNIT_NONE','k-one','env:UNIT_KEY','env:"
                  "UNIT_NO']},"
                  "'b':{'dialect':'openai','keys':['env:UNIT_NONE','env:UNIT_NO'],'headers':{'X':'y'}},"
                  "'c':{'dialect':'anthropic','keys':['k-three'],'headers':{'X':'y'}},"
                  "'d':{'dialect':'openai','key':''},'e':{'dialect':'gemini','keys':['k-4','k-5','k-6']}}}");
    static const struct {
        const char *name;
        size_t key_count, lane_at;
        const char *lines[3], *missing;
    } rows[] = {
        {"a", 2, 0, {"Authorization: Bearer k-one", "Authorization: Bearer sk-unit", NULL}, NULL},
        {"b", 1, 2, {NULL, NULL, NULL}, "UNIT_NONE"},
        {"c", 1, 3, {"x-api-key: k-three", NULL, NULL}, NULL},
        {"d", 1, 4, {NULL, NULL, NULL}, NULL},
        {"e", 3, 5, {"x-goog-api-key: k-4", "x-goog-api-key: k-5", "x-goog-api-key: k-6"}, NULL},
    };
    setenv("UNIT_KEY", "sk-unit", 1);
    setenv("OPENAI_API_KEY", "sk-known", 1); /* keys are asked for: this one is not looked at */
    open_good(&config, &options);
    assert_int_equal(config.lane_count, 8);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        const llmgwi_config_provider *p = provider_of(&config, rows[i].name);
        assert_int_equal(p->key_count, rows[i].key_count);
        assert_int_equal(p->lane_at, rows[i].lane_at);
        for (size_t k = 0; k < 3; k++) {
            assert_int_equal(p->keys[k].line == NULL, rows[i].lines[k] == NULL);
            if (rows[i].lines[k]) assert_string_equal(p->keys[k].line, rows[i].lines[k]);
        }
        assert_int_equal(p->missing == NULL, rows[i].missing == NULL);
        if (rows[i].missing) assert_string_equal(p->missing, rows[i].missing);
    }
    assert_true(provider_of(&config, "a")->keyed);
    assert_string_equal(header_of(provider_of(&config, "c"), "X"), "y");
    assert_string_equal(header_of(provider_of(&config, "c"), "anthropic-version"), "2023-06-01");
    llmgwi_config_close(&config);
}

static llmgw_options from_provider(llmgw_provider *provider) {
    llmgw_options options = from_json(NULL);
    memset(provider, 0, sizeof *provider);
    provider->name = "p";
    provider->dialect = "openai";
    options.providers = provider;
    options.provider_count = 1;
    return options;
}

static void test_several_keys_from_c(void **state) {
    static char texts[17][8];
    const char *keys[17];
    llmgw_provider provider;
    llmgwi_config config;
    llmgw_options options = from_provider(&provider);
    for (size_t i = 0; i < 17; i++) {
        snprintf(texts[i], sizeof texts[i], "key-%d", (int)i);
        keys[i] = texts[i];
    }
    provider.keys = keys;
    unit_has(open_bad(&options).text, "options.providers[0].keys: expected a list of 1 to 16 keys");
    for (provider.key_count = 1; provider.key_count <= 16; provider.key_count += 15) {
        open_good(&config, &options);
        assert_int_equal(config.providers[0]->key_count, provider.key_count);
        assert_int_equal(config.lane_count, provider.key_count);
        llmgwi_config_close(&config);
    }
    provider.key_count = 17;
    unit_has(open_bad(&options).text, "options.providers[0].keys: expected a list of 1 to 16 keys");
    provider.key_count = 2;
    keys[1] = NULL;
    unit_has(open_bad(&options).text, "options.providers[0].keys[1]: expected");
    provider.keys = NULL;
    unit_has(open_bad(&options).text, "options.providers[0].keys: expected a list");
    provider.keys = keys;
    provider.key_count = 1;
    provider.key = "k";
    unit_has(open_bad(&options).text, "options.providers[0].keys: not together with key");
}

static bool list_has(const void *list, const char *line) {
    const struct curl_slist *at = (const struct curl_slist *)list;
    while (at && strcmp(at->data, line) != 0) at = at->next;
    return at != NULL;
}

/* Each lane has its own key's headers, and no other key's, for plain calls and for streams. */
static void test_headers_of_each_lane(void **state) {
    static const char *const keys[] = {"key-one", "key-two"};
    static const char *const lines[] = {"Authorization: Bearer key-one", "Authorization: Bearer key-two",
                                        "x-api-key: key-three"};
    static const char *const accept[] = {"Accept: application/json", "Accept: text/event-stream"};
    llmgw_provider providers[3];
    llmgw_error error;
    llmgw_options options = from_json(NULL);
    memset(providers, 0, sizeof providers);
    providers[0].name = "openai";
    providers[0].keys = keys;
    providers[0].key_count = 2;
    providers[1].name = "anthropic";
    providers[1].key = "key-three";
    providers[2].name = "llamacpp"; /* without a key */
    options.providers = providers;
    options.provider_count = 3;
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("%s", error.text);
    assert_int_equal(gw->config.lane_count, 4);
    for (size_t lane = 0; lane < 4; lane++)
        for (size_t stream = 0; stream < 2; stream++) {
            const void *list = gw->headers[lane * 2 + stream];
            for (size_t i = 0; i < 3; i++) assert_int_equal(list_has(list, lines[i]), i == lane);
            for (size_t i = 0; i < 2; i++) assert_int_equal(list_has(list, accept[i]), i == stream);
            assert_true(list_has(list, "Content-Type: application/json"));
            assert_int_equal(list_has(list, "anthropic-version: 2023-06-01"), lane == 2);
        }
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
}

static void test_region(void **state) {
    static const struct {
        const char *json, *region;
        bool named;
    } rows[] = {
        {"{'providers':{'p':{'dialect':'openai','region':'eu-west-1'}}}", "eu-west-1", true},
        {"{'providers':{'p':{'dialect':'openai'}}}", "api.openai.com", false},
        {"{'providers':{'p':{'dialect':'openai','url':'https://h.example:8443/a/b'}}}", "h.example:8443",
         false},
        {"{'providers':{'p':{'dialect':'openai','url':'http://[::1]:80'}}}", "[::1]:80", false},
        {"{'providers':{'p':{'dialect':'openai','url':'https://h/','region':'h'}}}", "h", true},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_config config;
        llmgw_options options = from_json(rows[i].json);
        open_good(&config, &options);
        assert_string_equal(config.providers[0]->region, rows[i].region);
        assert_int_equal(config.providers[0]->domain_named, rows[i].named);
        llmgwi_config_close(&config);
    }
}

static void expect_limits(const llmgwi_config_limits *limits, int64_t rpm, int64_t tpm, int64_t rpd,
                          int64_t concurrency) {
    assert_int_equal(limits->rpm, rpm);
    assert_int_equal(limits->tpm, tpm);
    assert_int_equal(limits->rpd, rpd);
    assert_int_equal(limits->concurrency, concurrency);
}

static void test_limits(void **state) {
    static const int64_t most = INT64_C(1000000000000);
    llmgw_provider provider;
    llmgwi_config config;
    llmgw_options options =
        from_json("{'providers':{'a':{'dialect':'openai','rpm':1,'tpm':2,'rpd':3,'concurrency':4},"
                  "'b':{'dialect':'openai','rpm':1000000000000,'tpm':1000000000000,'rpd':1000000000000,"
                  "'concurrency':1000000},'c':{'dialect':'openai','rpm':0}}}");
    open_good(&config, &options);
    expect_limits(&provider_of(&config, "a")->limits, 1, 2, 3, 4);
    expect_limits(&provider_of(&config, "b")->limits, most, most, most, 1000000);
    expect_limits(&provider_of(&config, "c")->limits, 0, 0, 0, 0);
    llmgwi_config_close(&config);
    options = from_provider(&provider);
    provider.rpm = 5;
    provider.tpm = 6;
    provider.rpd = most;
    provider.concurrency = 8;
    open_good(&config, &options);
    expect_limits(&config.providers[0]->limits, 5, 6, most, 8);
    llmgwi_config_close(&config);
    provider.rpd++;
    unit_has(open_bad(&options).text, "options.providers[0].rpd: expected 1 to 1,000,000,000,000");
    provider.rpd = LLMGW_OFF;
    unit_has(open_bad(&options).text, "options.providers[0].rpd: expected 1 to 1,000,000,000,000");
}

/* A model's limits hold by whatever name it is asked: they are one struct, the strictest of what was said. */
static void test_limits_of_models(void **state) {
    static const char *const same[] = {"m", "n", "l/x", "r"};
    llmgwi_config config;
    llmgw_error error;
    llmgwi_config_target own;
    const llmgwi_config_target *targets;
    const llmgwi_config_route *route;
    const llmgwi_config_limits *limits = NULL;
    size_t count;
    llmgw_options options =
        from_json("{" LOCAL ",'models':{'m':{'provider':'l','model':'x','rpm':10,'rpd':30},"
                  "'other':{'provider':'l','model':'y','rpm':1},"
                  "'n':{'provider':'l','model':'x','rpm':20,'tpm':5,'rpd':3,'concurrency':4}},"
                  "'routes':{'r':{'try':['l/x','l/z']}}}");
    open_good(&config, &options);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(same); i++) {
        assert_true(llmgwi_config_resolve(&config, same[i], &own, &targets, &count, &route, &error));
        expect_limits(targets[0].limits, 10, 5, 3, 4);
        if (limits) assert_ptr_equal(targets[0].limits, limits);
        limits = targets[0].limits;
    }
    assert_ptr_equal(config.routes[0]->targets[1].limits, &llmgwi_config_unlimited);
    assert_true(llmgwi_config_resolve(&config, "other", &own, &targets, &count, &route, &error));
    expect_limits(targets[0].limits, 1, 0, 0, 0);
    llmgwi_config_close(&config);
}

static void test_limits_of_models_from_c(void **state) {
    llmgw_model model;
    llmgwi_config config;
    llmgw_options options = from_json("{" LOCAL ",'models':{'m':{'provider':'l','rpm':1}}}");
    memset(&model, 0, sizeof model);
    model.name = "m";
    model.provider = "l";
    model.rpm = 7;
    model.tpm = 8;
    model.rpd = 9;
    model.concurrency = 10;
    options.models = &model;
    options.model_count = 1;
    llmgw_provider provider;
    llmgw_options more = from_provider(&provider);
    provider.name = "l";
    options.providers = more.providers;
    options.provider_count = 1;
    open_good(&config, &options); /* the file's m is another description of the same name: not read */
    expect_limits(config.models[0]->target.limits, 7, 8, 9, 10);
    llmgwi_config_close(&config);
    model.concurrency = -1;
    unit_has(open_bad(&options).text, "options.models[0].concurrency: expected 1 to 1,000,000");
}

/* ---- routes ---- */

#define HOW(name) LLMGWI_CONFIG_##name
#define ALL_VALID (LLMGW_VALID_NOT_EMPTY | LLMGW_VALID_NOT_REFUSED | LLMGW_VALID_SCHEMA)

static void test_routes(void **state) {
    static const struct {
        const char *json;
        llmgwi_config_how how;
        double weights[3];
        int width;
        bool complete;
        int hedge_ms, hedge_percent, standby;
        unsigned valid;
    } rows[] = {
        {ROUTE("'hedge_percent':0"), HOW(FALLBACK), {1, 1, 1}, 1, false, 0, 5, 0, 0},
        {ROUTE("'how':'fallback','valid':[]"), HOW(FALLBACK), {1, 1, 1}, 1, false, 0, 5, 0, 0},
        {ROUTE("'how':'least_busy'"), HOW(LEAST_BUSY), {1, 1, 1}, 1, false, 0, 5, 0, 0},
        {ROUTE("'how':'fastest'"), HOW(FASTEST), {1, 1, 1}, 1, false, 0, 5, 0, 0},
        {ROUTE("'how':'weighted'"), HOW(WEIGHTED), {1, 1, 1}, 1, false, 0, 5, 0, 0},
        {ROUTE("'how':'weighted','weights':[0.5,2,1e9]"), HOW(WEIGHTED), {0.5, 2, 1e9}, 1, false, 0, 5, 0, 0},
        {ROUTE("'how':'race'"), HOW(RACE), {1, 1, 1}, 2, false, 0, 5, 0, 0},
        {ROUTE("'how':'race','width':2"), HOW(RACE), {1, 1, 1}, 2, false, 0, 5, 0, 0},
        {ROUTE("'how':'race','width':3,'race_by':'complete'"), HOW(RACE), {1, 1, 1}, 3, true, 0, 5, 0, 0},
        {ROUTE("'how':'race','race_by':'first_text','hedge':0"), HOW(RACE), {1, 1, 1}, 2, false, 0, 5, 0, 0},
        {ROUTE("'hedge':'p95'"), HOW(FALLBACK), {1, 1, 1}, 1, false, LLMGW_P95, 5, 0, 0},
        {ROUTE("'hedge':250,'hedge_percent':1"), HOW(FALLBACK), {1, 1, 1}, 1, false, 250, 1, 0, 0},
        {ROUTE("'hedge':-1,'hedge_percent':100"), HOW(FALLBACK), {1, 1, 1}, 1, false, 0, 100, 0, 0},
        {ROUTE("'standby':2"), HOW(FALLBACK), {1, 1, 1}, 1, false, 0, 5, 2, 0},
        {ROUTE("'valid':['not_empty']"), HOW(FALLBACK), {1, 1, 1}, 1, false, 0, 5, 0, LLMGW_VALID_NOT_EMPTY},
        {ROUTE("'valid':['not_refused']"),
         HOW(FALLBACK),
         {1, 1, 1},
         1,
         false,
         0,
         5,
         0,
         LLMGW_VALID_NOT_REFUSED},
        {ROUTE("'valid':['schema']"), HOW(FALLBACK), {1, 1, 1}, 1, false, 0, 5, 0, LLMGW_VALID_SCHEMA},
        {ROUTE("'valid':['schema','not_empty','not_refused','schema']"),
         HOW(FALLBACK),
         {1, 1, 1},
         1,
         false,
         0,
         5,
         0,
         ALL_VALID},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_config config;
        llmgw_options options = from_json(rows[i].json);
        open_good(&config, &options);
        const llmgwi_config_route *route = config.routes[0];
        bool weights = true;
        for (size_t t = 0; t < 3; t++) weights = weights && route->weights[t] == rows[i].weights[t];
        bool same = route->how == rows[i].how && route->width == rows[i].width && weights &&
                    route->race_complete == rows[i].complete && route->hedge_ms == rows[i].hedge_ms &&
                    route->hedge_percent == rows[i].hedge_percent && route->standby == rows[i].standby &&
                    route->valid == rows[i].valid && route->target_count == 3 && route->index == 0;
        if (!same) fail_msg("%s", rows[i].json);
        llmgwi_config_close(&config);
    }
}

static const char *const many_targets[20] = {"l/0",  "l/1",  "l/2",  "l/3",  "l/4",  "l/5",  "l/6",
                                             "l/7",  "l/8",  "l/9",  "l/10", "l/11", "l/12", "l/13",
                                             "l/14", "l/15", "l/16", "l/17", "l/18", "l/19"};

static llmgw_options from_route(llmgw_route *route, size_t count) {
    static llmgw_provider provider;
    llmgw_options options = from_provider(&provider);
    provider.name = "l";
    memset(route, 0, sizeof *route);
    route->name = "r";
    route->targets = many_targets;
    route->target_count = count;
    options.routes = route;
    options.route_count = 1;
    return options;
}

static void test_routes_from_c(void **state) {
    llmgw_route route;
    llmgwi_config config;
    llmgw_options options = from_route(&route, 20);
    route.how = "race";
    route.race_by = "complete";
    route.width = 16;
    route.standby = 8;
    route.valid = ALL_VALID;
    route.hedge_ms = LLMGW_OFF;
    open_good(&config, &options);
    assert_int_equal(config.routes[0]->width, 16);
    assert_int_equal(config.routes[0]->standby, 8);
    assert_int_equal(config.routes[0]->valid, ALL_VALID);
    assert_int_equal(config.routes[0]->hedge_ms, 0);
    assert_true(config.routes[0]->race_complete);
    llmgwi_config_close(&config);
    options = from_route(&route, 2);
    route.hedge_ms = LLMGW_P95;
    route.standby = 1;
    open_good(&config, &options);
    assert_int_equal(config.routes[0]->hedge_ms, LLMGW_P95);
    llmgwi_config_close(&config);
}

static void test_bad_routes_from_c(void **state) {
    static const double weights[20] = {1, 1, NAN, 1}, infinite[2] = {1, INFINITY};
    static const struct {
        const char *how;
        size_t targets;
        const double *weights;
        size_t weight_count;
        int width, hedge_ms, standby;
        unsigned valid;
        const char *error;
    } rows[] = {
        {"tombola", 2, NULL, 0, 0, 0, 0, 0, "how: expected"},
        {"", 2, NULL, 0, 0, 0, 0, 0, "how: expected"},
        {"weighted", 4, weights, 4, 0, 0, 0, 0, "weights: expected numbers over 0"}, /* NaN */
        {"weighted", 2, infinite, 2, 0, 0, 0, 0, "weights: expected numbers over 0"},
        {"weighted", 4, NULL, 4, 0, 0, 0, 0, "weights: expected one for each target"},
        {"weighted", 2, weights, 0, 0, 0, 0, 0, "weights: expected one for each target"},
        {"weighted", 1, weights, 2, 0, 0, 0, 0, "weights: expected one for each target"},
        {NULL, 2, weights, 2, 0, 0, 0, 0, "weights: only with"},
        {"race", 20, NULL, 0, 17, 0, 0, 0, "width: expected 2 to 16"},
        {"race", 1, NULL, 0, 2, 0, 0, 0, "try: a race needs two targets"},
        {NULL, 2, NULL, 0, 0, LLMGW_P95 - 1, 0, 0, "hedge_ms: expected milliseconds"},
        {NULL, 2, NULL, 0, 0, INT_MIN, 0, 0, "hedge_ms: expected milliseconds"},
        {NULL, 1, NULL, 0, 0, 1, 0, 0, "hedge_ms: needs a second target"},
        {"race", 2, NULL, 0, 0, LLMGW_P95, 0, 0, "hedge_ms: not in a race"},
        {NULL, 20, NULL, 0, 0, 0, 9, 0, "standby: expected 1 to 8"},
        {NULL, 2, NULL, 0, 0, 0, 2, 0, "standby: expected fewer"},
        {NULL, 2, NULL, 0, 0, 0, 0, 8, "valid: a bit that is no LLMGW_VALID_"},
        {NULL, 2, NULL, 0, 0, 0, 0, ~0u, "valid: a bit that is no LLMGW_VALID_"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgw_route route;
        llmgw_options options = from_route(&route, rows[i].targets);
        route.how = rows[i].how;
        route.weights = rows[i].weights;
        route.weight_count = rows[i].weight_count;
        route.width = rows[i].width;
        route.hedge_ms = rows[i].hedge_ms;
        route.standby = rows[i].standby;
        route.valid = rows[i].valid;
        llmgw_error error = open_bad(&options);
        assert_int_equal(error.code, LLMGW_E_CONFIG);
        unit_has(error.text, "options.routes[0].");
        unit_has(error.text, rows[i].error);
    }
}

/* A list in the file holds 64 at most, of whatever kind. */
static void test_too_many_weights(void **state) {
    char json[512];
    for (int count = 64; count <= 65; count++) {
        size_t n = (size_t)snprintf(json, sizeof json, "{'routes':{'r':{'weights':[");
        for (int i = 0; i < count; i++) n += (size_t)snprintf(json + n, sizeof json - n, "%s1", i ? "," : "");
        snprintf(json + n, sizeof json - n, "]}}}");
        expect_bad(json, count > 64 ? "routes.r.weights: 64 at most" : "routes.r.try: expected a list");
    }
}

/* "A key is sent only to its own provider's host": a dialect is not a provider. */
static void test_dialect_does_not_bring_the_key(void **state) {
    llmgwi_config config;
    llmgw_options options = from_json(
        "{'providers':{'local':{'dialect':'openai','url':'http://127.0.0.1:8080/v1'},"
        "'lan':{'dialect':'openai','url':'http://gpu.lan/v1'},"
        "'claudish':{'dialect':'anthropic','url':'https://h.example'},"
        "'second':{'dialect':'openai'},'third':{'dialect':'openai','url':'https://api.openai.com/v1/'}}}");
    setenv("OPENAI_API_KEY", "sk-secret", 1);
    setenv("ANTHROPIC_API_KEY", "sk-secret", 1);
    open_good(&config, &options);
    assert_null(header_of(provider_of(&config, "local"), "Authorization"));
    assert_null(header_of(provider_of(&config, "lan"), "Authorization"));
    assert_null(header_of(provider_of(&config, "claudish"), "x-api-key"));
    assert_string_equal(header_of(provider_of(&config, "second"), "Authorization"), "Bearer sk-secret");
    assert_string_equal(header_of(provider_of(&config, "third"), "Authorization"), "Bearer sk-secret");
    llmgwi_config_close(&config);
}

/* Who speaks openai's dialect may be told to speak responses, and stays who it is: place, key's variable, flavour. */
static void test_responses_of_a_known_name(void **state) {
    static const struct {
        const char *json, *dialect, *flavour, *url, *key; /* of provider p, or of the name */
        bool named;
    } rows[] = {
        {"{'providers':{'openrouter':{'dialect':'responses'}}}", "responses", "openrouter",
         "https://openrouter.ai/api/v1", "Bearer k-router", true},
        {"{'providers':{'openai':{'dialect':'responses'}}}", "responses", "openai",
         "https://api.openai.com/v1", "Bearer k-openai", true},
        {"{'providers':{'openai':{'dialect':'responses','url':'https://h.example/v1'}}}", "responses",
         "openai", "https://h.example/v1", "Bearer k-openai", true},
        {"{'providers':{'mine':{'dialect':'responses'}}}", "responses", "openai", "https://api.openai.com/v1",
         "Bearer k-openai", false},
        {"{'providers':{'mine':{'dialect':'responses','url':'https://h.example/v1'}}}", "responses", "openai",
         "https://h.example/v1", NULL, false}, /* a dialect does not bring the key */
        {"{'providers':{'portkey':{'dialect':'responses','key':'k-p'}}}", "responses", "portkey",
         "https://api.portkey.ai/v1", "k-p", true},
        {"{'providers':{'openrouter':{}}}", "openai", "openrouter", "https://openrouter.ai/api/v1",
         "Bearer k-router", true},
        {"{'providers':{'openrouter':{'dialect':'openai'}}}", "openai", "openrouter",
         "https://openrouter.ai/api/v1", "Bearer k-router", true},
        {"{'providers':{'mine':{'dialect':'openrouter'}}}", "openai", "openrouter",
         "https://openrouter.ai/api/v1", "Bearer k-router", false},
        {"{'providers':{'anthropic':{'dialect':'responses'}}}", "responses", "openai",
         "https://api.openai.com/v1", "Bearer k-openai", false}, /* it speaks no such thing */
        {"{'providers':{'openai':{'dialect':'anthropic','key':'k-a'}}}", "anthropic", "anthropic",
         "https://api.anthropic.com/v1", "k-a", false},
    };
    setenv("OPENAI_API_KEY", "k-openai", 1);
    setenv("OPENROUTER_API_KEY", "k-router", 1);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_config config;
        llmgw_options options = from_json(rows[i].json);
        open_good(&config, &options);
        const llmgwi_config_provider *p = config.providers[0];
        const char *header = strcmp(p->flavour, "portkey") == 0     ? "x-portkey-api-key"
                             : strcmp(p->flavour, "anthropic") == 0 ? "x-api-key"
                                                                    : "Authorization";
        assert_string_equal(p->dialect->name, rows[i].dialect);
        assert_string_equal(p->flavour, rows[i].flavour);
        assert_string_equal(p->url, rows[i].url);
        assert_int_equal(p->named, rows[i].named);
        if (rows[i].key)
            assert_string_equal(header_of(p, header), rows[i].key);
        else
            assert_null(header_of(p, header));
        llmgwi_config_close(&config);
    }
}

/* Models of OpenAI that only the Responses API serves go there by themselves, by whatever name they are asked; at
   another host, which may translate, they do not. */
static void test_responses_of_a_model(void **state) {
    static const struct {
        const char *name, *dialect;
        bool fixed, thoughtless; /* takes no temperature; no reasoning */
    } rows[] = {
        {"openai/o1-pro", "responses", true, false},
        {"openai/o1-pro-2025-03-19", "responses", true, false},
        {"openai/o3-pro", "responses", true, false},
        {"openai/gpt-5-pro", "responses", true, false},
        {"openai/gpt-5-pro-2025-10-06", "responses", true, false},
        {"openai/gpt-5.2-pro", "responses", true, false},
        {"openai/gpt-5-codex", "responses", true, false},
        {"openai/gpt-5.1-codex-max", "responses", true, false},
        {"openai/codex-mini-latest", "responses", true, false},
        {"openai/o3-deep-research-2025-06-26", "responses", true, false},
        {"openai/o4-mini-deep-research", "responses", true, false},
        {"openai/computer-use-preview", "responses", true, false},
        {"best", "responses", true, false}, /* an alias */
        {"openai/o1", "openai", false, false},
        {"openai/o3", "openai", false, false},
        {"openai/o3-mini", "openai", false, false},
        {"openai/gpt-5", "openai", false, false},
        {"openai/gpt-4o-realtime-preview", "openai", false, false},
        {"openai/gpt-4o", "openai", false, false},
        {"second/o3-pro", "responses", true, false}, /* another account there */
        {"proxy/o3-pro", "openai", false, false},
        {"groq/o3-pro", "openai", false, false},
        {"told/gpt-5", "responses", false, false},
        {"told/gpt-4o-mini", "responses", false, true},
        {"told/gpt-5-chat-latest", "responses", false, true},
        {"openrouter/openai/gpt-4.1", "responses", false, true},
        {"openrouter/openai/gpt-5-codex", "responses", true, false},
    };
    llmgwi_config config;
    llmgwi_config_target target;
    llmgw_options options = from_json(
        "{'providers':{'openai':{'key':'k'},'groq':{'key':'k'},'second':{'dialect':'openai','key':'k'},"
        "'proxy':{'dialect':'openai','url':'https://h.example/v1','key':'k'},"
        "'told':{'dialect':'responses','url':'https://h.example/v1','key':'k'},"
        "'openrouter':{'dialect':'responses','key':'k'}},"
        "'models':{'best':{'provider':'openai','model':'o3-pro'}},"
        "'routes':{'r':{'try':['openai/gpt-5','openai/gpt-5-pro','best']}}}");
    open_good(&config, &options);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        assert_true(llmgwi_config_target_find(&config, rows[i].name, &target));
        bool responses = strcmp(target.dialect->name, "responses") == 0;
        unsigned temperature = LLMGWI_DIALECT_QUIRK(target.quirks, LLMGWI_DIALECT_TEMPERATURE_AT, 3);
        bool fixed = responses && temperature == LLMGWI_DIALECT_NONE;
        bool thoughtless = responses && (target.quirks & LLMGWI_DIALECT_THINK) == LLMGWI_DIALECT_THINK_NONE;
        if (strcmp(target.dialect->name, rows[i].dialect) != 0 || fixed < rows[i].fixed ||
            thoughtless != rows[i].thoughtless)
            fail_msg("%s: %s, %d %d", rows[i].name, target.dialect->name, fixed, thoughtless);
        assert_string_equal(target.provider->dialect->name,
                            strstr("told openrouter", target.provider->name) ? "responses" : "openai");
    }
    assert_string_equal(config.routes[0]->targets[0].dialect->name, "openai");
    assert_string_equal(config.routes[0]->targets[1].dialect->name, "responses");
    assert_string_equal(config.routes[0]->targets[2].dialect->name, "responses");
    llmgwi_config_close(&config);
}

/* The variable of a local server's key goes to loopback only. */
static void test_local_key_stays_local(void **state) {
    llmgwi_config config;
    llmgw_options options = from_json("{'providers':{'vllm':{'url':'https://h.example/v1'},'llamacpp':{}}}");
    setenv("VLLM_API_KEY", "k-vllm-1", 1);
    setenv("LLAMACPP_API_KEY", "k-llama-1", 1);
    open_good(&config, &options);
    assert_null(header_of(provider_of(&config, "vllm"), "Authorization"));
    assert_string_equal(header_of(provider_of(&config, "llamacpp"), "Authorization"), "Bearer k-llama-1");
    llmgwi_config_close(&config);
}

/* Built-in prices hold at the known place only. */
static void test_listed(void **state) {
    static const struct {
        const char *json;
        bool listed;
    } rows[] = {
        {"{'providers':{'openai':{'key':'k'}}}", true},
        {"{'providers':{'openai':{'key':'k','url':'https://api.openai.com/v1'}}}", true},
        {"{'providers':{'openai':{'key':'k','url':'https://api.openai.com/v1/'}}}", true},
        {"{'providers':{'openai':{'key':'k','url':'https://proxy.example/v1'}}}", false},
        {"{'providers':{'openai':{'key':'k','url':'http://127.0.0.1:1/v1'}}}", false},
        {"{'providers':{'mine':{'dialect':'openai','key':'k'}}}", true},
        {"{'providers':{'mine':{'dialect':'mistral','key':'k'}}}", true},
        {"{'providers':{'mine':{'dialect':'openai','url':'https://h.example','key':'k'}}}", false},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_config config;
        llmgw_options options = from_json(rows[i].json);
        open_good(&config, &options);
        assert_int_equal(config.providers[0]->listed, rows[i].listed);
        llmgwi_config_close(&config);
    }
}

static void test_insecure(void **state) {
    static const struct {
        const char *json;
        bool good;
    } rows[] = {
        {"{'providers':{'p':{'dialect':'openai','url':'http://h.example/v1','key':'k'}}}", false},
        {"{'providers':{'p':{'dialect':'openai','url':'http://h.example/v1','headers':{'X-Key':'k'}}}}",
         false},
        {"{'providers':{'p':{'dialect':'openai','url':'http://127.evil.com/v1','key':'k'}}}", false},
        {"{'providers':{'p':{'dialect':'openai','url':'http://localhost.evil.com/v1','key':'k'}}}", false},
        {"{'providers':{'p':{'dialect':'openai','url':'http://10.0.0.1/v1','key':'k'}}}", false},
        {"{'providers':{'p':{'dialect':'openai','url':'http://0.0.0.0/v1','key':'k'}}}", false},
        {"{'providers':{'openai':{'url':'http://h.example/v1','key':'env:UNIT_KEY'}}}", false},
        {"{'providers':{'openai':{'url':'http://h.example/v1','keys':['env:UNIT_NONE','env:UNIT_KEY']}}}",
         false},
        {"{'providers':{'openai':{'url':'http://h.example/v1','keys':['env:UNIT_NONE','env:UNIT_NO']}}}",
         true},
        {"{'providers':{'p':{'dialect':'openai','url':'http://h.example/v1','key':''}}}", true},
        {"{'providers':{'p':{'dialect':'openai','url':'http://h.example/v1','key':'env:UNIT_MISSING'}}}",
         true},
        {"{'providers':{'p':{'dialect':'openai','url':'http://127.0.0.1:80/v1','key':'k'}}}", true},
        {"{'providers':{'p':{'dialect':'openai','url':'http://127.255.3.4/v1','key':'k'}}}", true},
        {"{'providers':{'p':{'dialect':'openai','url':'http://LocalHost:1/v1','key':'k'}}}", true},
        {"{'providers':{'p':{'dialect':'openai','url':'http://[::1]:1/v1','key':'k'}}}", true},
        {"{'providers':{'p':{'dialect':'openai','url':'https://h.example/v1','key':'k'}}}", true},
    };
    setenv("UNIT_KEY", "sk-unit", 1);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_config config;
        llmgw_options options = from_json(rows[i].json);
        if (rows[i].good) {
            open_good(&config, &options);
            llmgwi_config_close(&config);
            continue;
        }
        llmgw_error error = open_bad(&options);
        if (error.code != LLMGW_E_INSECURE) fail_msg("%s: %s", rows[i].json, error.text);
        unit_has(error.text, ".url: ");
    }
}

/* ---- headers ---- */

static void test_headers(void **state) {
    static const char *const lines[3] = {"X-Title: My: app", "X-Key:env:UNIT_KEY", "X-Empty: "};
    llmgwi_config config;
    llmgw_provider provider;
    llmgw_options options = from_json("{'providers':{'p':{'dialect':'anthropic','url':'https://h','headers':{"
                                      "'anthropic-beta':'a,b','X-Key':'env:UNIT_KEY'}}}}");
    setenv("UNIT_KEY", "sk-unit", 1);
    memset(&provider, 0, sizeof provider);
    provider.name = "q";
    provider.dialect = "openai";
    provider.url = "https://h";
    provider.headers = lines;
    provider.header_count = 3;
    options.providers = &provider;
    options.provider_count = 1;
    open_good(&config, &options);
    assert_string_equal(header_of(provider_of(&config, "p"), "anthropic-beta"), "a,b");
    assert_string_equal(header_of(provider_of(&config, "p"), "X-Key"), "sk-unit");
    assert_string_equal(header_of(provider_of(&config, "q"), "X-Title"), "My: app");
    assert_string_equal(header_of(provider_of(&config, "q"), "X-Key"), "sk-unit");
    assert_string_equal(header_of(provider_of(&config, "q"), "X-Empty"), "");
    assert_true(provider_of(&config, "q")->keyed);
    llmgwi_config_close(&config);
}

static void test_header_injection(void **state) {
    static const char *const rows[][2] = {
        {"{'providers':{'p':{'dialect':'openai','key':'a\\r\\nX: y'}}}",
         "providers.p.key: holds a control character"},
        {"{'providers':{'p':{'dialect':'openai','key':'a\\nb'}}}",
         "providers.p.key: holds a control character"},
        {"{'providers':{'p':{'dialect':'openai','key':'a\\u007f'}}}",
         "providers.p.key: holds a control character"},
        {"{'providers':{'p':{'dialect':'openai','key':'a\\u0000b'}}}", "providers.p.key: holds a NUL"},
        {"{'providers':{'p':{'dialect':'openai','headers':{'X':'a\\r\\nY: z'}}}}",
         "providers.p.headers[0]: a bad character"},
        {"{'providers':{'p':{'dialect':'openai','headers':{'X\\r\\nY':'z'}}}}",
         "providers.p.headers[0]: a bad character"},
        {"{'providers':{'p':{'dialect':'openai','headers':{'X Y':'z'}}}}",
         "providers.p.headers[0]: a bad character"},
        {"{'providers':{'p':{'dialect':'openai','headers':{'':'z'}}}}", "providers.p.headers[0]: expected"},
        {"{'providers':{'p':{'dialect':'openai','headers':{'X':'env:UNIT_MISSING'}}}}",
         "its environment variable is not set"},
        {"{'providers':{'p':{'dialect':'openai','headers':{'X':'env:UNIT_KEY'}}}}",
         "providers.p.headers[0]: a bad character"},
        {"{'providers':{'p':{'dialect':'openai','key':'env:UNIT_KEY'}}}",
         "providers.p.key: holds a control character"},
    };
    setenv("UNIT_KEY", "sk-1\r\nHost: evil", 1);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) expect_bad(rows[i][0], rows[i][1]);
}

static void test_header_counts(void **state) {
    static const char *lines[40];
    for (int i = 0; i < 40; i++) lines[i] = "X-A: b";
    for (size_t n = 28; n <= 31; n++) {
        llmgwi_config config;
        llmgw_provider provider;
        llmgw_options options = from_json(NULL);
        memset(&provider, 0, sizeof provider);
        provider.name = "anthropic"; /* key and a fixed header beside them */
        provider.key = "sk-ant-123";
        provider.headers = lines;
        provider.header_count = n;
        options.providers = &provider;
        options.provider_count = 1;
        if (n > 29) {
            unit_has(open_bad(&options).text, "options.providers[0].headers: too many");
            continue;
        }
        open_good(&config, &options);
        assert_int_equal(config.providers[0]->header_count, n + 1);
        assert_string_equal(header_of(config.providers[0], "x-api-key"), "sk-ant-123");
        llmgwi_config_close(&config);
    }
    llmgw_provider provider;
    llmgw_options options = from_json(NULL);
    memset(&provider, 0, sizeof provider);
    provider.name = "openai";
    provider.header_count = 1; /* without the array */
    options.providers = &provider;
    options.provider_count = 1;
    unit_has(open_bad(&options).text, "options.providers[0].headers[0]");
}

/* ---- URLs ---- */

static const struct {
    const char *url, *why; /* NULL: good */
    bool loopback;
} url_rows[] = {
    {"https://h.example", NULL, false},
    {"https://h.example:8443/a/b/", NULL, false},
    {"http://h.example:1", NULL, false},
    {"http://localhost:65535", NULL, true},
    {"http://LOCALHOST", NULL, true},
    {"http://127.0.0.1", NULL, true},
    {"http://127.1.2.3:5/x", NULL, true},
    {"http://[::1]:8080/v1", NULL, true},
    {"http://[::1]", NULL, true},
    {"https://[2001:db8::1]:443/v1", NULL, false},
    {"http://127.evil.com", NULL, false},
    {"http://127.0.0.1.evil.com", NULL, false},
    {"http://127.0.0.1x", NULL, false},
    {"http://127.0.0.256", NULL, false},
    {"http://127.256.0.1", NULL, false},
    {"http://127.0.256.1", NULL, false},
    {"http://127.-1.0.1", NULL, false},
    {"http://127.+1.0.1", NULL, false},
    {"http://localhost.evil.com", NULL, false},
    {"http://notlocalhost", NULL, false},
    {"http://%6cocalhost", NULL, false},
    {"http://1270.0.0.1", NULL, false},
    {"http://[::1].evil.com", "expected a port", false},
    {"http://[::1", "']' is missing", false},
    {"ftp://h", "expected https://", false},
    {"file:///etc/passwd", "expected https://", false},
    {"h.example/v1", "expected https://", false},
    {"", "expected https://", false},
    {"https:/h", "expected https://", false},
    {"https://", "the host is missing", false},
    {"https:///v1", "the host is missing", false},
    {"https://:80/v1", "the host is missing", false},
    {"https://user@h/", "no user or password", false},
    {"https://user:pass@h/", "no user or password", false},
    {"http://127.0.0.1:80@evil.com/", "no user or password", false},
    {"https://h/v1?key=x", "no query or fragment", false},
    {"https://h/v1#x", "no query or fragment", false},
    {"https://h?x", "no query or fragment", false},
    {"https://h:", "a bad port", false},
    {"https://h:/v1", "a bad port", false},
    {"https://h:99999", "a bad port", false},
    {"https://h:123456", "a bad port", false},
    {"https://h:8o", "a bad port", false},
    {"https://h:-1", "a bad port", false},
    {"https://h/a b", "a character", false},
    {"https://h/\r\nx", "a character", false},
    {"https://h/\x7f", "a character", false},
    {"https://h\\@evil.com", "a character", false},
    {"https://h\xC3\xA9.example", "a character", false},
};

static void test_urls(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(url_rows); i++) {
        llmgwi_config config;
        llmgw_provider provider;
        llmgw_options options = from_json(NULL);
        memset(&provider, 0, sizeof provider);
        provider.name = "p";
        provider.dialect = "openai";
        provider.key = "";
        provider.url = url_rows[i].url;
        options.providers = &provider;
        options.provider_count = 1;
        if (url_rows[i].why) {
            llmgw_error error = open_bad(&options);
            assert_int_equal(error.code, LLMGW_E_CONFIG);
            unit_has(error.text, "options.providers[0].url: ");
            unit_has(error.text, url_rows[i].why);
            continue;
        }
        open_good(&config, &options);
        if (config.providers[0]->loopback != url_rows[i].loopback)
            fail_msg("loopback of %s", url_rows[i].url);
        assert_int_equal(config.providers[0]->tls, strncmp(url_rows[i].url, "https", 5) == 0);
        assert_true(config.providers[0]->url[strlen(config.providers[0]->url) - 1] != '/');
        llmgwi_config_close(&config);
    }
}

static unsigned below(unsigned n) {
    static uint64_t seed = 7;
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((seed >> 33) % n);
}

/* libcurl connects to what libcurl reads: a host that we take for loopback must be one for it, too. */
static void check_against_curl(const char *url) {
    llmgwi_config_provider provider;
    char *host = NULL, *user = NULL;
    memset(&provider, 0, sizeof provider);
    if (llmgwi_config_url(&provider, url)) return; /* refused */
    CURLU *parsed = curl_url();
    assert_non_null(parsed);
    if (curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK) {
        assert_int_equal(curl_url_get(parsed, CURLUPART_HOST, &host, 0), CURLUE_OK);
        if (curl_url_get(parsed, CURLUPART_USER, &user, 0) != CURLUE_NO_USER) fail_msg("%s has a user", url);
        bool loopback =
            strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 || strncmp(host, "127.", 4) == 0;
        if (provider.loopback && !loopback) fail_msg("%s goes to %s", url, host);
        curl_free(host);
        curl_free(user);
    }
    curl_url_cleanup(parsed);
}

static void test_urls_against_curl(void **state) {
    static const char *const pieces[] = {
        "http://", "https://", "127.0.0.1", "localhost", "[::1]", "evil.com", "@", ":", "/",
        "?",       "#",        "\\",        ".",         "%40",   "%2f",      "[", "]", "80",
        "x",       "\t",       "//",        "127",       ";",     "&",        ","};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(url_rows); i++) check_against_curl(url_rows[i].url);
    for (int round = 0; round < 100000; round++) {
        char url[256] = "";
        strcat(url, below(2) ? "http://" : "https://");
        for (unsigned n = 1 + below(6); n > 0; n--) strcat(url, pieces[below(LLMGWI_BASE_COUNT(pieces))]);
        check_against_curl(url);
    }
}

/* Law 12: a damaged file is refused or read, never a crash; the error says something. */
static void test_damaged_file(void **state) {
    static const char bytes[] = "\"\"{}[]:,0123456789-.eEtfnul\\ \n\x01\x7F\x80\xC3\xFF";
    char text[2048];
    for (int round = 0; round < 5000; round++) {
        llmgwi_config config;
        llmgw_error error;
        llmgw_options options = from_json(NULL);
        snprintf(text, sizeof text, "%s", unit_quoted(design_file));
        for (unsigned n = 1 + below(3); n > 0; n--)
            text[below((unsigned)strlen(text))] = bytes[below(sizeof bytes - 1)];
        if (below(4) == 0) text[below((unsigned)strlen(text))] = 0;
        options.config_json = text;
        memset(&error, 0, sizeof error);
        bool good = llmgwi_config_open(&config, &unit_mem, &options, &error);
        assert_int_equal(good, error.code == LLMGW_OK);
        assert_int_equal(good, error.text[0] == 0);
        assert_true(unit_is_utf8(error.text));
        llmgwi_config_close(&config);
    }
}

static void test_ollama_host(void **state) {
    static const char *const rows[][2] = {
        {"", "http://127.0.0.1:11434/v1"},
        {"gpu", "http://gpu:11434/v1"},
        {"gpu:8000", "http://gpu:8000/v1"},
        {"gpu/", "http://gpu:11434/v1"},
        {"gpu:8000/", "http://gpu:8000/v1"},
        {"http://gpu:8000", "http://gpu:8000/v1"},
        {"https://ollama.example", "https://ollama.example/v1"},
        {"https://ollama.example:1/", "https://ollama.example:1/v1"},
        {"127.0.0.1:5555", "http://127.0.0.1:5555/v1"},
        {"0.0.0.0", "http://127.0.0.1:11434/v1"},
        {"0.0.0.0:5555", "http://127.0.0.1:5555/v1"},
        {"http://0.0.0.0:5555", "http://127.0.0.1:5555/v1"},
        {"[::1]:5555", "http://[::1]:5555/v1"},
        {"[::1]", "http://[::1]:11434/v1"},
    };
    llmgw_options options = from_json(NULL);
    options.no_environment = false;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_config config;
        setenv("OLLAMA_HOST", rows[i][0], 1);
        open_good(&config, &options);
        assert_string_equal(provider_of(&config, "ollama")->url, rows[i][1]);
        assert_int_equal(provider_of(&config, "ollama")->discovered, rows[i][0][0] == 0);
        llmgwi_config_close(&config);
    }
}

/* A setting for another program may not keep this one from starting. */
static void test_ollama_host_odd(void **state) {
    static const char *const rows[] = {":11434", "::1", "gpu:port", "a b", "user@host", "http://", "[::1"};
    llmgw_options options = from_json("{'providers':{'openai':{'key':'k'}}}");
    options.no_environment = false;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_config config;
        setenv("OLLAMA_HOST", rows[i], 1);
        open_good(&config, &options);
        assert_non_null(provider_of(&config, "openai"));
        llmgwi_config_close(&config);
    }
}

/* ---- bedrock: regions and credentials ---- */

typedef struct aws_row {
    const char *json;        /* of provider "bedrock" */
    const char *environment; /* "NAME=value NAME=value" */
    const char *bad;         /* what the error says; NULL: none */
    const char *url, *region;
    const char *access, *secret, *token; /* who signs; NULL: nobody */
    const char *bearer, *missing;
} aws_row;

#define BEDROCK_AT(region) "https://bedrock-runtime." region ".amazonaws.com", region
#define AWS_KEYS "AWS_ACCESS_KEY_ID=AKIDENV AWS_SECRET_ACCESS_KEY=secret-env"

static const aws_row aws_rows[] = {
    /* where */
    {"{'key':'k'}", "", "providers.bedrock.region: required, or set AWS_REGION", NULL, NULL, NULL, NULL, NULL,
     NULL, NULL},
    {"{'key':'k','region':'eu-central-1'}", "AWS_REGION=us-east-1", NULL, BEDROCK_AT("eu-central-1"), NULL,
     NULL, NULL, "k", NULL},
    {"{'key':'k'}", "AWS_REGION=us-east-1 AWS_DEFAULT_REGION=x", NULL, BEDROCK_AT("us-east-1"), NULL, NULL,
     NULL, "k", NULL},
    {"{'key':'k'}", "AWS_DEFAULT_REGION=us-west-2", NULL, BEDROCK_AT("us-west-2"), NULL, NULL, NULL, "k",
     NULL},
    {"{'key':'k','region':'evil.com#'}", "", "providers.bedrock.region: expected the name", NULL, NULL, NULL,
     NULL, NULL, NULL, NULL},
    {"{'key':'k','region':'a.b'}", "", "providers.bedrock.region: expected the name", NULL, NULL, NULL, NULL,
     NULL, NULL, NULL},
    {"{'key':'k','region':'us-gov-west-1','url':'https://bedrock-runtime-fips.{region}.amazonaws.com/'}", "",
     NULL, "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", NULL, NULL, NULL, "k",
     NULL},
    {"{'key':'k','url':'http://127.0.0.1:1'}", "", NULL, "http://127.0.0.1:1", "127.0.0.1:1", NULL, NULL,
     NULL, "k", NULL},
    /* who */
    {"{}", "AWS_REGION=us-east-1 AWS_BEARER_TOKEN_BEDROCK=b " AWS_KEYS, NULL, BEDROCK_AT("us-east-1"), NULL,
     NULL, NULL, "b", NULL},
    {"{}", "AWS_REGION=us-east-1 " AWS_KEYS, NULL, BEDROCK_AT("us-east-1"), "AKIDENV", "secret-env", NULL,
     NULL, NULL},
    {"{}", "AWS_REGION=us-east-1 AWS_SESSION_TOKEN=tok " AWS_KEYS, NULL, BEDROCK_AT("us-east-1"), "AKIDENV",
     "secret-env", "tok", NULL, NULL},
    {"{}", "AWS_REGION=us-east-1", NULL, BEDROCK_AT("us-east-1"), NULL, NULL, NULL, NULL,
     "AWS_BEARER_TOKEN_BEDROCK"},
    {"{}", "AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=a", NULL, BEDROCK_AT("us-east-1"), NULL, NULL, NULL, NULL,
     "AWS_SECRET_ACCESS_KEY"},
    {"{'access_key':'AKIDC','secret_key':'sc','region':'r-1'}",
     "AWS_BEARER_TOKEN_BEDROCK=b AWS_SESSION_TOKEN=tok " AWS_KEYS, NULL, BEDROCK_AT("r-1"), "AKIDC", "sc",
     NULL, NULL, NULL},
    {"{'access_key':'env:UNIT_KEY','secret_key':'sc','session_token':'t','region':'r-1'}", "UNIT_KEY=AKIDU",
     NULL, BEDROCK_AT("r-1"), "AKIDU", "sc", "t", NULL, NULL},
    {"{'access_key':'AKIDC','secret_key':'env:UNIT_NONE','region':'r-1'}", "", NULL, BEDROCK_AT("r-1"), NULL,
     NULL, NULL, NULL, "UNIT_NONE"},
    {"{'access_key':'AKIDC','secret_key':'s','session_token':'env:UNIT_NONE','region':'r-1'}", "", NULL,
     BEDROCK_AT("r-1"), NULL, NULL, NULL, NULL, "UNIT_NONE"},
    {"{'key':'','region':'r-1'}", AWS_KEYS, NULL, BEDROCK_AT("r-1"), NULL, NULL, NULL, NULL, NULL},
    /* nonsense */
    {"{'access_key':'AKIDC','region':'r-1'}", "", "providers.bedrock.secret_key: required with access_key",
     NULL, NULL, NULL, NULL, NULL, NULL, NULL},
    {"{'secret_key':'s','region':'r-1'}", "", "providers.bedrock.secret_key: only with access_key", NULL,
     NULL, NULL, NULL, NULL, NULL, NULL},
    {"{'access_key':'AKIDC','secret_key':'s','key':'k','region':'r-1'}", "",
     "providers.bedrock.access_key: not together with key", NULL, NULL, NULL, NULL, NULL, NULL, NULL},
    {"{'access_key':'env:','secret_key':'s','region':'r-1'}", "",
     "providers.bedrock.access_key: expected a variable", NULL, NULL, NULL, NULL, NULL, NULL, NULL},
    {"{'access_key':'A\\n','secret_key':'s','region':'r-1'}", "",
     "providers.bedrock.access_key: holds a control", NULL, NULL, NULL, NULL, NULL, NULL, NULL},
    {"{'dialect':'openai','access_key':'A','secret_key':'s'}", "",
     "providers.bedrock.access_key: only with the dialect bedrock", NULL, NULL, NULL, NULL, NULL, NULL, NULL},
    {"{'access_key':'A','secret_key':'s','region':'r-1','url':'http://host'}", "",
     "providers.bedrock.url: a key would travel over plain http", NULL, NULL, NULL, NULL, NULL, NULL, NULL},
};

/* Sets "NAME=value NAME=value". */
static void set_environment(const char *pairs) {
    char copy[256], *save = NULL;
    snprintf(copy, sizeof copy, "%s", pairs);
    clean_environment(NULL);
    for (char *pair = strtok_r(copy, " ", &save); pair; pair = strtok_r(NULL, " ", &save)) {
        *strchr(pair, '=') = 0;
        setenv(pair, pair + strlen(pair) + 1, 1);
    }
}

static void same_text(const char *got, const char *want) {
    if (!got != !want) fail_msg("'%s', expected '%s'", got ? got : "NULL", want ? want : "NULL");
    if (got) assert_string_equal(got, want);
}

static void test_aws(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(aws_rows); i++) {
        const aws_row *row = &aws_rows[i];
        char json[512];
        llmgwi_config config;
        snprintf(json, sizeof json, "{'providers':{'bedrock':%s}}", row->json);
        llmgw_options options = from_json(json);
        set_environment(row->environment);
        if (row->bad) {
            unit_has(open_bad(&options).text, row->bad);
            continue;
        }
        open_good(&config, &options);
        const llmgwi_config_provider *provider = provider_of(&config, "bedrock");
        same_text(provider->url, row->url);
        same_text(provider->region, row->region);
        same_text(provider->aws.access, row->access);
        if (row->access) {
            char text[128];
            same_text(provider->aws.secret, row->secret);
            same_text(provider->aws.token, row->token);
            same_text(provider->aws.region, row->region);
            same_text(provider->aws.service, "bedrock");
            assert_true(provider->keyed);
            snprintf(text, sizeof text, "secret-env stays %s", row->secret);
            llmgwi_config_redact(&config, text);
            if (strlen(row->secret) > 5) assert_null(strstr(text, row->secret));
        }
        char bearer[64];
        snprintf(bearer, sizeof bearer, "Bearer %s", row->bearer ? row->bearer : "");
        same_text(header_of(provider, "Authorization"), row->bearer ? bearer : NULL);
        same_text(provider->missing, row->missing);
        llmgwi_config_close(&config);
    }
}

/* Found without a configuration only where both a region and credentials are set. */
static void test_aws_found(void **state) {
    static const struct {
        const char *environment;
        bool found;
    } rows[] = {
        {"", false},
        {AWS_KEYS, false},
        {"AWS_BEARER_TOKEN_BEDROCK=b", false},
        {"AWS_REGION=us-east-1", false},
        {"AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=a", false},
        {"AWS_REGION=us-east-1 " AWS_KEYS, true},
        {"AWS_DEFAULT_REGION=us-east-1 AWS_BEARER_TOKEN_BEDROCK=b", true},
    };
    llmgw_options options = from_json(NULL);
    options.no_environment = false;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_config config;
        set_environment(rows[i].environment);
        open_good(&config, &options);
        assert_int_equal(provider_of(&config, "bedrock") != NULL, rows[i].found);
        llmgwi_config_close(&config);
    }
}

/* ---- redaction ---- */

static void test_redact(void **state) {
    static const char *const rows[][2] = {
        {"key sk-abcdef123 is wrong", "key [key] is wrong"},
        {"sk-abcdef123sk-abcdef123", "[key][key]"},
        {"wrong: sk-abcdef12", "wrong: "}, /* cut off at the end */
        {"wrong: sk-abc", "wrong: "},
        {"wrong: sk-ab", "wrong: sk-ab"}, /* five bytes tell nothing */
        {"sk-abcdef123", "[key]"},
        {"sk-abcdef124", "sk-abcdef124"},
        {"env-secret-9 and head-secret-9", "[key] and [key]"},
        {"tiny stays", "tiny stays"},
        {"", ""},
    };
    llmgwi_config config;
    llmgw_options options =
        from_json("{'providers':{'p':{'dialect':'openai','key':'sk-abcdef123'},"
                  "'q':{'dialect':'openai','key':'env:UNIT_KEY','headers':{'X-S':'head-secret-9'}},"
                  "'r':{'dialect':'openai','key':'tiny'}}}");
    setenv("UNIT_KEY", "env-secret-9", 1);
    open_good(&config, &options);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        char text[128];
        snprintf(text, sizeof text, "%s", rows[i][0]);
        llmgwi_config_redact(&config, text);
        assert_string_equal(text, rows[i][1]);
    }
    llmgwi_config_close(&config);
}

static void test_redact_several_keys(void **state) {
    llmgwi_config config;
    llmgw_options options = from_json(
        "{'providers':{'p':{'dialect':'openai','keys':['sk-first-1','env:UNIT_NONE','env:UNIT_KEY']}}}");
    setenv("UNIT_KEY", "sk-first-1-and-second", 1); /* one begins the other */
    open_good(&config, &options);
    char text[128] = "neither sk-first-1 nor sk-first-1-and-second, sk-first";
    llmgwi_config_redact(&config, text);
    assert_string_equal(text, "neither [key] nor [key], ");
    llmgwi_config_close(&config);
}

/* "Authorization: Bearer K" as a header of one's own: K is the secret. And one key may begin another. */
static void test_redact_header_words(void **state) {
    llmgwi_config config;
    llmgw_options options = from_json("{'providers':{'p':{'dialect':'openai','url':'https://h','headers':{"
                                      "'Authorization':'Bearer sk-abcdef123'}},"
                                      "'q':{'dialect':'openai','key':'sk-long'},"
                                      "'r':{'dialect':'openai','key':'sk-long-and-more'}}}");
    open_good(&config, &options);
    char text[128] = "Incorrect API key provided: sk-abcdef123.";
    llmgwi_config_redact(&config, text);
    assert_null(strstr(text, "abcdef"));
    snprintf(text, sizeof text, "got sk-long-and-more here");
    llmgwi_config_redact(&config, text);
    assert_string_equal(text, "got [key] here");
    llmgwi_config_close(&config);
}

/* ---- caps ---- */

static void test_caps(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_config_defaults); i++) {
        const llmgwi_config_default *row = &llmgwi_config_defaults[i];
        int64_t values[] = {0, row->low, row->high, row->low - 1, row->high + 1, -1, -2};
        for (size_t v = 0; v < LLMGWI_BASE_COUNT(values); v++) {
            bool wide = row->wide;
            if (!wide && (values[v] > INT_MAX || values[v] < INT_MIN)) continue;
            llmgw_options options = from_json(NULL);
            llmgwi_config config;
            if (wide)
                *(size_t *)(void *)((char *)&options + row->at) = (size_t)values[v];
            else
                *(int *)(void *)((char *)&options + row->at) = (int)values[v];
            bool good = values[v] == 0 || (values[v] >= row->low && values[v] <= row->high) ||
                        (row->off && values[v] == -1);
            if (!good) {
                llmgw_error error = open_bad(&options);
                assert_int_equal(error.code, LLMGW_E_CONFIG);
                unit_has(error.text, row->name);
                unit_has(error.text, "expected");
                continue;
            }
            open_good(&config, &options);
            const char *at = (const char *)&config.options + row->at;
            int64_t got =
                wide ? (int64_t) * (const size_t *)(const void *)at : *(const int *)(const void *)at;
            assert_int_equal(got, values[v] ? values[v] : row->value);
            llmgwi_config_close(&config);
        }
    }
}

static void test_defaults_as_documented(void **state) {
    llmgwi_config config;
    llmgw_options options = from_json(NULL);
    open_good(&config, &options);
    const llmgw_options *got = &config.options;
    assert_int_equal(got->deadline_ms, 120000);
    assert_int_equal(got->connect_ms, 10000);
    assert_int_equal(got->first_token_ms, 60000);
    assert_int_equal(got->idle_ms, 30000);
    assert_int_equal(got->max_attempts, 0); /* by the route: 4, or its targets if they are more */
    assert_int_equal(got->max_calls, 65536);
    assert_int_equal(got->max_connections, 20000);
    assert_int_equal(got->max_idle_connections, 256);
    assert_int_equal(got->max_request_bytes, 64 << 20);
    assert_int_equal(got->max_reply_bytes, 16 << 20);
    assert_int_equal(got->max_event_bytes, 8 << 20);
    assert_int_equal(got->max_queue_bytes, 256 << 10);
    assert_int_equal(got->max_json_depth, 128);
    assert_int_equal(got->max_waiting, 10000);
    assert_int_equal(got->max_targets, 4096);
    assert_int_equal(got->backoff_ms, 500);
    assert_int_equal(got->backoff_max_ms, 8000);
    assert_int_equal(got->retry_after_max_ms, 3600000);
    assert_int_equal(got->retry_percent, 20);
    assert_int_equal(got->max_resumes, 3);
    assert_int_equal(got->max_repairs, 1);
    assert_int_equal(got->hold_ms, 50);
    assert_int_equal(got->hold_bytes, 32);
    assert_int_equal(got->min_bytes_per_s, 1);
    assert_int_equal(got->breaker_failures, 5);
    assert_int_equal(got->breaker_percent, 50);
    assert_int_equal(got->breaker_min_calls, 20);
    assert_int_equal(got->breaker_window_ms, 30000);
    assert_int_equal(got->breaker_open_ms, 5000);
    assert_int_equal(got->breaker_open_max_ms, 120000);
    assert_int_equal(got->breaker_slow_ms, 0); /* by what is usual for the target */
    assert_int_equal(got->key_dead_ms, 60000);
    assert_int_equal(got->headroom_percent, 80);
    assert_int_equal(got->reserve_output_tokens, 4096);
    assert_int_equal(got->standby_ms, 50000);
    assert_int_equal(got->duty_us, 500);
    llmgwi_config_close(&config);
}

/* Which numbers can be switched off: the others would make no sense without. */
static void test_off_as_documented(void **state) {
    static const char *const offs[] = {
        "deadline_ms",     "connect_ms",      "first_token_ms",   "idle_ms",
        "backoff_ms",      "retry_percent",   "max_resumes",      "max_repairs",
        "hold_ms",         "hold_bytes",      "min_bytes_per_s",  "breaker_failures",
        "breaker_percent", "breaker_slow_ms", "headroom_percent", "standby_ms"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_config_defaults); i++) {
        const llmgwi_config_default *row = &llmgwi_config_defaults[i];
        bool off = llmgwi_config_word(offs, LLMGWI_BASE_COUNT(offs), row->name) < LLMGWI_BASE_COUNT(offs);
        if (row->off != off) fail_msg("%s", row->name);
    }
}

/* Each number of the options can be given in the file under its own name, C wins over it, and no int or size
   of the two groups was forgotten: they are all there is behind alloc_user. */
static void test_numbers_of_the_file(void **state) {
    size_t bytes = 0;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_config_defaults); i++) {
        const llmgwi_config_default *row = &llmgwi_config_defaults[i];
        char json[96];
        llmgwi_config config;
        snprintf(json, sizeof json, "{'%s':%lld}", row->name, (long long)row->high);
        bytes += row->wide ? sizeof(size_t) : sizeof(int);
        for (int c = 0; c < 2; c++) {
            llmgw_options options = from_json(json);
            char *set = (char *)&options + row->at;
            const char *got = (const char *)&config.options + row->at;
            if (c && row->wide)
                *(size_t *)(void *)set = (size_t)row->low;
            else if (c)
                *(int *)(void *)set = (int)row->low;
            open_good(&config, &options);
            int64_t value =
                row->wide ? (int64_t) * (const size_t *)(const void *)got : *(const int *)(const void *)got;
            assert_int_equal(value, c ? row->low : row->high);
            llmgwi_config_close(&config);
        }
    }
    size_t all = sizeof(llmgw_options) - offsetof(llmgw_options, deadline_ms);
    assert_in_range(bytes, all - 3 * sizeof(int), all); /* padding before, between and after */
}

static void test_too_many_targets(void **state) {
    static char json[4096];
    for (int count = 64; count <= 65; count++) {
        llmgwi_config config;
        size_t n = (size_t)snprintf(json, sizeof json, "{" LOCAL ",'routes':{'r':{'try':[");
        for (int i = 0; i < count; i++)
            n += (size_t)snprintf(json + n, sizeof json - n, "%s'l/m%d'", i ? "," : "", i);
        snprintf(json + n, sizeof json - n, "]}}}");
        if (count == 65) {
            expect_bad(json, "routes.r.try");
            continue;
        }
        llmgw_options options = from_json(json);
        open_good(&config, &options);
        assert_int_equal(config.routes[0]->target_count, 64);
        llmgwi_config_close(&config);
    }
}

static void test_too_many_names(void **state) {
    static char json[LLMGW_MAX_NAMES * 40];
    for (int count = LLMGW_MAX_NAMES; count <= LLMGW_MAX_NAMES + 1; count++) {
        llmgwi_config config;
        llmgw_options options = from_json(NULL);
        size_t n = (size_t)snprintf(json, sizeof json, "%s", unit_quoted("{" LOCAL ",'models':{"));
        for (int i = 0; i < count; i++)
            n += (size_t)snprintf(json + n, sizeof json - n, "%s\"m%d\":{\"provider\":\"l\"}", i ? "," : "",
                                  i);
        snprintf(json + n, sizeof json - n, "}}");
        options.config_json = json;
        if (count > LLMGW_MAX_NAMES) {
            llmgw_error error = open_bad(&options);
            assert_int_equal(error.code, LLMGW_E_CONFIG);
            unit_has(error.text, "models: too many");
            continue;
        }
        open_good(&config, &options);
        assert_int_equal(config.model_count, LLMGW_MAX_NAMES);
        llmgwi_config_close(&config);
    }
}

/* ---- C descriptions ---- */

static void test_counts_without_arrays(void **state) {
    for (int kind = 0; kind < 3; kind++) {
        llmgw_options options = from_json(NULL);
        *(kind == 0 ? &options.provider_count : kind == 1 ? &options.model_count : &options.route_count) = 1;
        unit_has(open_bad(&options).text, "a count without its array");
    }
}

static void test_c_descriptions_are_named(void **state) {
    llmgw_provider provider;
    llmgw_model model;
    llmgw_route route;
    llmgw_options options = from_json("{" LOCAL "}");
    memset(&provider, 0, sizeof provider);
    memset(&model, 0, sizeof model);
    memset(&route, 0, sizeof route);
    options.providers = &provider;
    options.provider_count = 1;
    unit_has(open_bad(&options).text, "options.providers[0].name: expected");
    options.provider_count = 0;
    options.models = &model;
    options.model_count = 1;
    unit_has(open_bad(&options).text, "options.models[0].name: expected");
    options.model_count = 0;
    options.routes = &route;
    options.route_count = 1;
    unit_has(open_bad(&options).text, "options.routes[0].name: expected");
    route.name = "r";
    unit_has(open_bad(&options).text, "options.routes[0].try: expected a list");
    route.target_count = 2;
    unit_has(open_bad(&options).text, "options.routes[0].try: expected a list");
}

/* ---- files ---- */

static const char *write_file(const char *text, size_t n) {
    static char path[128];
    snprintf(path, sizeof path, "%s/config.json", directory);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void test_config_path(void **state) {
    llmgwi_config config;
    llmgw_options options = from_json(NULL);
    const char *text = unit_quoted(" {" LOCAL ",'deadline_ms':7}\n");
    options.config_path = write_file(text, strlen(text));
    open_good(&config, &options);
    assert_int_equal(config.options.deadline_ms, 7);
    assert_non_null(provider_of(&config, "l"));
    llmgwi_config_close(&config);
    options.config_json = "{}";
    unit_has(open_bad(&options).text, "config_json: not together with config_path");
    options.config_json = NULL;
    options.config_path = write_file("", 0);
    assert_int_equal(open_bad(&options).code, LLMGW_E_CONFIG); /* an empty file is no configuration */
    options.config_path = write_file("{}\0{}", 5);
    assert_int_equal(open_bad(&options).code, LLMGW_E_CONFIG);
    assert_int_equal(unlink(options.config_path), 0);
}

static void test_config_path_unreadable(void **state) {
    llmgw_options options = from_json(NULL);
    options.config_path = "/no/such/file.json";
    llmgw_error error = open_bad(&options);
    assert_int_equal(error.code, LLMGW_E_CONFIG);
    unit_has(error.text, "/no/such/file.json");
    unit_has(error.text, strerror(ENOENT));
    options.config_path = directory;
    unit_has(open_bad(&options).text, directory);
    options.config_path = write_file("{}", 2);
    if (geteuid() != 0) { /* root reads everything */
        chmod(options.config_path, 0);
        unit_has(open_bad(&options).text, strerror(EACCES));
    }
    unlink(options.config_path);
}

static void test_config_path_size(void **state) {
    size_t n = LLMGWI_CONFIG_FILE_BYTES;
    char *text = malloc(n + 1);
    assert_non_null(text);
    memset(text, ' ', n + 1);
    text[0] = '{';
    text[1] = '}';
    llmgw_options options = from_json(NULL);
    llmgwi_config config;
    options.config_path = write_file(text, n);
    open_good(&config, &options);
    llmgwi_config_close(&config);
    options.config_path = write_file(text, n + 1);
    unit_has(open_bad(&options).text, "larger than 4 MiB");
    unlink(options.config_path);
    free(text);
}

static void test_ca_file(void **state) {
    llmgwi_config config;
    llmgw_options options = from_json("{'ca_file':'/dev/null'}");
    open_good(&config, &options);
    assert_string_equal(config.ca_file, "/dev/null");
    llmgwi_config_close(&config);
    options.ca_file = "/etc/passwd";
    open_good(&config, &options);
    assert_string_equal(config.ca_file, "/etc/passwd");
    llmgwi_config_close(&config);
    options.ca_file = "/no/such/ca.pem";
    unit_has(open_bad(&options).text, "ca_file");
    options = from_json(NULL);
    open_good(&config, &options);
    assert_null(config.ca_file);
    llmgwi_config_close(&config);
}

/* ---- resolving ---- */

static void test_resolve(void **state) {
    static const struct {
        const char *name, *provider, *model; /* NULL: an error */
        llmgw_code code;
        size_t count; /* over 1: a route */
    } rows[] = {
        {"sonnet", "claude", "claude-sonnet-4-5", LLMGW_OK, 1},
        {"claude/claude-opus-5", "claude", "claude-opus-5", LLMGW_OK, 1},
        {"local/a/b:c", "local", "a/b:c", LLMGW_OK, 1},
        {"chat", "claude", "claude-sonnet-4-5", LLMGW_OK, 3},
        {"nobody/x", NULL, NULL, LLMGW_E_MODEL, 0},
        {"nothing", NULL, NULL, LLMGW_E_MODEL, 0},
        {"local/", NULL, NULL, LLMGW_E_MODEL, 0},
        {"/x", NULL, NULL, LLMGW_E_MODEL, 0},
        {"gemini/gemini-2.5-flash", NULL, NULL, LLMGW_E_NO_KEY, 0},
    };
    llmgwi_config config;
    llmgw_options options = from_json(design_file);
    open_good(&config, &options);
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        llmgwi_config_target own;
        const llmgwi_config_target *targets;
        size_t count;
        llmgw_error error;
        const llmgwi_config_route *route = NULL;
        memset(&error, 0, sizeof error);
        bool good = llmgwi_config_resolve(&config, rows[i].name, &own, &targets, &count, &route, &error);
        assert_int_equal(good, rows[i].code == LLMGW_OK);
        assert_int_equal(error.code, rows[i].code);
        if (!good) {
            unit_has(error.text, rows[i].name);
            continue;
        }
        assert_int_equal(count, rows[i].count);
        assert_int_equal(route != NULL, rows[i].count > 1);
        if (route) assert_string_equal(route->name, rows[i].name);
        assert_non_null(targets[0].limits);
        assert_string_equal(targets[0].provider->name, rows[i].provider);
        assert_string_equal(targets[0].model, rows[i].model);
        assert_true(strcmp(rows[i].model, "claude-sonnet-4-5") || targets[0].price.input.value == 3);
    }
    llmgwi_config_close(&config);
}

/* A configured price holds however the model is named. */
static void test_price_by_any_name(void **state) {
    llmgwi_config config;
    llmgwi_config_target target;
    llmgw_options options = from_json(design_file);
    open_good(&config, &options);
    assert_true(llmgwi_config_target_find(&config, "claude/claude-sonnet-4-5", &target));
    assert_true(target.price.input.set && target.price.input.value == 3);
    assert_true(llmgwi_config_target_find(&config, "claude/claude-opus-5", &target));
    assert_false(target.price.input.set);
    llmgwi_config_close(&config);
}

static void test_only_provider(void **state) {
    llmgwi_config config;
    llmgwi_config_target own;
    const llmgwi_config_target *targets;
    const llmgwi_config_route *route;
    size_t count;
    llmgw_error error;
    llmgw_options options = from_json("{" LOCAL "}");
    memset(&error, 0, sizeof error);
    open_good(&config, &options);
    assert_true(llmgwi_config_resolve(&config, "llama", &own, &targets, &count, &route, &error));
    assert_null(route);
    assert_ptr_equal(targets[0].limits, &llmgwi_config_unlimited);
    assert_string_equal(targets[0].provider->name, "l");
    assert_string_equal(targets[0].model, "llama");
    llmgwi_config_close(&config);
    options = from_json(NULL);
    open_good(&config, &options);
    assert_false(llmgwi_config_resolve(&config, "llama", &own, &targets, &count, &route, &error));
    assert_int_equal(error.code, LLMGW_E_MODEL);
    unit_has(error.text, "no provider is configured");
    llmgwi_config_close(&config);
}

/* ---- law 9: freed memory holds no key ---- */

#define KEY_MARK "SECRETMARK"

typedef struct watch {
    int found, wrong_size;
    long live;
} watch;

static bool holds_key(const char *p, size_t n) { return memmem(p, n, KEY_MARK, strlen(KEY_MARK)) != NULL; }

static void *watched(void *ptr, size_t old_size, size_t new_size, void *user) {
    watch *w = (watch *)user;
    char *old = ptr ? (char *)ptr - 16 : NULL, *block = NULL;
    size_t known = 0;
    if (old) memcpy(&known, old, sizeof known);
    if (known != old_size) w->wrong_size++;
    if (new_size) {
        block = malloc(new_size + 16);
        if (!block) return NULL;
        memcpy(block, &new_size, sizeof new_size);
        if (old) memcpy(block + 16, ptr, known < new_size ? known : new_size);
        w->live++;
    }
    if (old) {
        if (holds_key(ptr, known)) w->found++;
        free(old);
        w->live--;
    }
    return block ? block + 16 : NULL;
}

static const char *const key_headers[2] = {"X-Own: " KEY_MARK "-header",
                                           "Authorization: Bearer " KEY_MARK "-bearer"};

/* Keys by every way they can come in. */
static llmgw_options keyed_options(watch *w, const char *path) {
    static const char *const keys[] = {KEY_MARK "-first", "env:UNIT_NONE", "env:UNIT_KEY"};
    static llmgw_provider providers[3];
    llmgw_options options;
    memset(&options, 0, sizeof options);
    memset(providers, 0, sizeof providers);
    memset(w, 0, sizeof *w);
    providers[0].name = "openai";
    providers[0].key = KEY_MARK "-c";
    providers[1].name = "mine";
    providers[1].dialect = "anthropic";
    providers[1].url = "http://127.0.0.1:1";
    providers[1].key = "env:UNIT_KEY";
    providers[1].headers = key_headers;
    providers[1].header_count = 2;
    providers[2].name = "several";
    providers[2].dialect = "openai";
    providers[2].url = "http://127.0.0.1:1";
    providers[2].keys = keys;
    providers[2].key_count = 3;
    options.providers = providers;
    options.provider_count = 3;
    options.config_path = path;
    options.alloc = watched;
    options.alloc_user = w;
    setenv("UNIT_KEY", KEY_MARK "-env", 1);
    setenv("GROQ_API_KEY", KEY_MARK "-groq", 1);
    return options;
}

static void test_keys_are_wiped(void **state) {
    static const char json[] =
        "{'providers':{'anthropic':{'key':'" KEY_MARK "-file'},'mistral':{'key':'SECRET\\u004dARK-escaped'},"
        "'p':{'dialect':'gemini','headers':{'X-A':'" KEY_MARK "-1','X-B':'Bearer " KEY_MARK "-2'}},"
        "'q':{'dialect':'openai','keys':['" KEY_MARK "-3','SECRET\\u004dARK-4','env:UNIT_KEY']}},"
        "'models':{'m':{'provider':'mine'}},'routes':{'r':{'try':['m','several/x']}}}";
    watch w;
    llmgw_error error;
    const char *text = unit_quoted(json);
    llmgw_options options = keyed_options(&w, write_file(text, strlen(text)));
    llmgw *gw = llmgw_open(&options, &error);
    if (!gw) fail_msg("%s", error.text);
    llmgw_request request = unit_ask("hi");
    request.model = "r";
    request.max_attempts = 2;
    request.deadline_ms = 300;
    llmgw_reply *reply = llmgw_chat(gw, &request); /* nobody listens there */
    assert_int_not_equal(reply->error.code, LLMGW_OK);
    llmgw_reply_free(reply);
    assert_int_equal(llmgw_close(gw), LLMGW_OK);
    unlink(options.config_path);
    assert_int_equal(w.found, 0);
    assert_int_equal(w.wrong_size, 0);
    assert_int_equal(w.live, 0);
}

/* Also after an open that fails once keys were read. */
static void test_keys_are_wiped_after_failure(void **state) {
    static const char *const endings[] = {
        "'deadline_ms':'x'}",  "'routes':{'r':{'try':['nobody/x']}}}",        "}", "",
        "'max_attempts':100}", "'routes':{'r':{'try':['mine/x'],'width':2}}}"};
    static const char *const providers[] = {
        "'anthropic':{'key':'" KEY_MARK "-file'}", "'anthropic':{'keys':['" KEY_MARK "-1','" KEY_MARK "-2']}",
        "'anthropic':{'keys':['" KEY_MARK "-1','" KEY_MARK "-2','" KEY_MARK "-1']}",
        "'anthropic':{'keys':['" KEY_MARK "-1','" KEY_MARK "-2\\n']}"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(endings) * LLMGWI_BASE_COUNT(providers); i++) {
        char json[512];
        watch w;
        llmgw_error error;
        snprintf(json, sizeof json, "{'providers':{%s},%s", providers[i % LLMGWI_BASE_COUNT(providers)],
                 endings[i / LLMGWI_BASE_COUNT(providers)]);
        const char *text = unit_quoted(json);
        llmgw_options options = keyed_options(&w, write_file(text, strlen(text)));
        assert_null(llmgw_open(&options, &error));
        assert_int_equal(error.code, LLMGW_E_CONFIG);
        assert_null(strstr(error.text, KEY_MARK));
        unlink(options.config_path);
        assert_int_equal(w.found, 0);
        assert_int_equal(w.wrong_size, 0);
        assert_int_equal(w.live, 0);
    }
}

/* ---- store and cache ---- */

#define STORE "'store':{'path':'/tmp/x'}"

static void test_durable_defaults(void **state) {
    llmgwi_config config;
    llmgw_options options = from_json(NULL);
    open_good(&config, &options);
    const llmgw_store *store = &config.options.store;
    const llmgw_cache *cache = &config.options.cache;
    assert_null(store->path);
    assert_null(store->key);
    assert_true(store->max_bytes == INT64_C(1) << 30);
    assert_int_equal(store->max_readers, 126);
    assert_int_equal(store->commit_ms, 50);
    assert_false(store->no_sync || store->required || cache->on || cache->semantic || cache->strict ||
                 cache->per_hit);
    assert_int_equal(cache->ttl_s, 604800);
    assert_true(cache->max_error.set && cache->max_error.value == 0.02);
    assert_false(cache->similarity.set);
    assert_true(cache->revalidate_usd_per_day.set && cache->revalidate_usd_per_day.value == 1);
    assert_int_equal(cache->revalidate_per_day, 10000);
    assert_null(cache->judge);
    assert_null(cache->embed_model);
    assert_int_equal(cache->embed_dim, 0);
    assert_int_equal(cache->embed_ms, 300);
    assert_int_equal(cache->max_entry_bytes, 1 << 20);
    assert_int_equal(cache->max_ask_bytes, 2000);
    assert_int_equal(config.options.duty_us, 500);
    assert_false(config.options.background_thread);
    llmgwi_config_close(&config);
}

static const char durable_file[] =
    "{" LOCAL ",'models':{'j':{'provider':'l'}},'background_thread':true,'duty_us':1000,"
    "'store':{'path':'~/x','max_bytes':'64MiB','max_readers':7,'no_sync':true,'commit_ms':-1,'required':true,"
    " 'key':'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1dFEff'},"
    "'cache':{'ttl':'12h','semantic':true,'max_error':0,'strict':true,'per_hit':true,"
    " 'revalidate_usd_per_day':0,'revalidate_per_day':9,'judge':'j','embed_model':'l/e','embed_ms':5,"
    " 'max_entry_bytes':'4KiB','max_ask_bytes':8192}}";

static void test_durable_file(void **state) {
    llmgwi_config config;
    llmgw_options options = from_json(durable_file);
    open_good(&config, &options);
    const llmgw_store *store = &config.options.store;
    const llmgw_cache *cache = &config.options.cache;
    assert_string_equal(store->path, "~/x");
    assert_true(store->max_bytes == 64 << 20);
    assert_int_equal(store->max_readers, 7);
    assert_int_equal(store->commit_ms, LLMGW_OFF);
    assert_true(store->no_sync && store->required);
    for (int i = 0; i < 30; i++) assert_int_equal(((const unsigned char *)store->key)[i], i);
    assert_int_equal(((const unsigned char *)store->key)[30], 0xFE);
    assert_int_equal(((const unsigned char *)store->key)[31], 0xFF);
    assert_true(cache->on && cache->semantic && cache->strict && cache->per_hit);
    assert_int_equal(cache->ttl_s, 43200);
    assert_true(cache->max_error.set && cache->max_error.value == 0);
    assert_true(cache->revalidate_usd_per_day.set && cache->revalidate_usd_per_day.value == 0);
    assert_int_equal(cache->revalidate_per_day, 9);
    assert_string_equal(cache->judge, "j");
    assert_string_equal(cache->embed_model, "l/e");
    assert_int_equal(cache->embed_ms, 5);
    assert_int_equal(cache->max_entry_bytes, 4096);
    assert_int_equal(cache->max_ask_bytes, 8192);
    assert_true(config.options.background_thread);
    assert_int_equal(config.options.duty_us, 1000);
    llmgwi_config_close(&config);
}

static bool same_answers(const char *a, size_t a_len, const char *b, size_t b_len, void *user) {
    return true;
}
static bool no_vector(const char *text, size_t n, float *vector, size_t dim, void *user) { return false; }

/* What C says wins; its texts and key are copied, its functions are kept. */
static void test_durable_from_c(void **state) {
    llmgwi_config config;
    unsigned char key[32];
    char path[] = "/tmp/c", judge[] = "l/judge", model[] = "l/embed";
    llmgw_options options = from_json(durable_file);
    int user;
    memset(key, 7, sizeof key);
    options.store.path = path;
    options.store.max_bytes = 1 << 20;
    options.store.max_readers = 8;
    options.store.commit_ms = 9;
    options.store.key = key;
    options.cache.ttl_s = LLMGW_OFF;
    options.cache.max_error = llmgw_set(0.5);
    options.cache.revalidate_usd_per_day = llmgw_set(2);
    options.cache.revalidate_per_day = 3;
    options.cache.same = same_answers;
    options.cache.same_user = &user;
    options.cache.judge = judge;
    options.cache.embed_model = model;
    options.cache.embed_ms = 6;
    options.cache.max_entry_bytes = 5000;
    options.cache.max_ask_bytes = 100;
    options.duty_us = 10;
    open_good(&config, &options);
    memset(path, 'x', strlen(path)), memset(judge, 'x', strlen(judge)), memset(model, 'x', strlen(model));
    memset(key, 0, sizeof key);
    const llmgw_store *store = &config.options.store;
    const llmgw_cache *cache = &config.options.cache;
    assert_string_equal(store->path, "/tmp/c");
    assert_true(store->max_bytes == 1 << 20);
    assert_int_equal(store->max_readers, 8);
    assert_int_equal(store->commit_ms, 9);
    for (int i = 0; i < 32; i++) assert_int_equal(((const unsigned char *)store->key)[i], 7);
    assert_int_equal(cache->ttl_s, LLMGW_OFF);
    assert_true(cache->max_error.value == 0.5 && cache->revalidate_usd_per_day.value == 2);
    assert_int_equal(cache->revalidate_per_day, 3);
    assert_ptr_equal(cache->same, same_answers);
    assert_ptr_equal(cache->same_user, &user);
    assert_string_equal(cache->judge, "l/judge");
    assert_string_equal(cache->embed_model, "l/embed");
    assert_int_equal(cache->embed_ms, 6);
    assert_int_equal(cache->max_entry_bytes, 5000);
    assert_int_equal(cache->max_ask_bytes, 100);
    assert_int_equal(config.options.duty_us, 10);
    llmgwi_config_close(&config);
}

/* Of what excludes each other C's choice stands; the file alone must choose. */
static void test_durable_choices(void **state) {
    llmgwi_config config;
    llmgw_options options =
        from_json("{" LOCAL "," STORE ",'cache':{'max_error':0.5,'strict':true,'per_hit':true,"
                  "'embed_model':'l/e'}}");
    options.cache.similarity = llmgw_set(0.9);
    options.cache.embed = no_vector;
    options.cache.embed_dim = 4096;
    open_good(&config, &options);
    assert_true(config.options.cache.similarity.set && config.options.cache.similarity.value == 0.9);
    assert_false(config.options.cache.max_error.set || config.options.cache.strict ||
                 config.options.cache.per_hit);
    assert_null(config.options.cache.embed_model);
    assert_ptr_equal(config.options.cache.embed, no_vector);
    assert_int_equal(config.options.cache.embed_dim, 4096);
    llmgwi_config_close(&config);
    for (int i = 0; i < 3; i++) {
        options = from_json("{'cache':{'on':false,'similarity':0.9}}");
        if (i == 0) options.cache.max_error = llmgw_set(0);
        if (i == 1) options.cache.strict = true;
        if (i == 2) options.cache.per_hit = true;
        open_good(&config, &options);
        assert_false(config.options.cache.similarity.set || config.options.cache.on);
        assert_true(config.options.cache.max_error.set);
        assert_true(config.options.cache.max_error.value == (i ? 0.02 : 0));
        llmgwi_config_close(&config);
    }
    options = from_json("{'cache':{'on':false,'similarity':0.9}}");
    open_good(&config, &options);
    assert_true(config.options.cache.similarity.set && !config.options.cache.max_error.set);
    options.cache.on = true; /* C over the file's false */
    options.store.path = "x";
    llmgwi_config_close(&config);
    open_good(&config, &options);
    assert_true(config.options.cache.on);
    llmgwi_config_close(&config);
}

static void test_durable_wrong(void **state) {
    static const char *const rows[][2] = {
        {"{'cache':{}}", "cache.on: needs store.path"},
        {"{'cache':{'on':true}}", "cache.on: needs store.path"},
        {"{'cache':{'on':1}}", "cache.on: expected true or false"},
        {"{'cache':{'on':'yes'}}", "cache.on: expected true or false"},
        {"{'store':{'path':''}}", "store.path: empty"},
        {"{'store':{'path':'a\\nb'}}", "store.path: empty, too long, or holds a control"},
        {"{'store':{'max_bytes':1048575}}", "store.max_bytes: expected 1048576 to 17592186044416"},
        {"{'store':{'max_bytes':'17TiB'}}", "store.max_bytes: expected 1048576 to"},
        {"{'store':{'key':'12'}}", "store.key: expected \"env:NAME\" or 64 hexadecimal digits"},
        {"{'store':{'key':7}}", "store.key: expected \"env:NAME\" or 64"},
        {"{'store':{'key':'env:UNIT_NO'}}", "store.key: its environment variable is not set"},
        {"{'store':{'commit_ms':-2}}", "store.commit_ms: expected"},
        {"{'cache':{'on':false,'max_error':1.01}}", "cache.max_error: expected 0 to 1"},
        {"{'cache':{'on':false,'max_error':-0.1}}", "cache.max_error: expected 0 to 1"},
        {"{'cache':{'on':false,'similarity':2}}", "cache.similarity: expected 0 to 1"},
        {"{'cache':{'on':false,'similarity':0.9,'max_error':0.1}}", "cache.similarity: not together with"},
        {"{'cache':{'on':false,'similarity':0.9,'strict':true}}", "cache.similarity: not together with"},
        {"{'cache':{'on':false,'similarity':0.9,'per_hit':true}}", "cache.similarity: not together with"},
        {"{'cache':{'on':false,'revalidate_usd_per_day':-1}}", "cache.revalidate_usd_per_day: expected 0 to"},
        {"{'cache':{'on':false,'judge':''}}", "cache.judge: empty"},
        {"{" LOCAL ",'cache':{'on':false,'judge':'nobody/x'}}", "cache.judge: model 'nobody/x'"},
        {"{" LOCAL ",'cache':{'on':false,'embed_model':'nobody/x'}}", "cache.embed_model: model 'nobody/x'"},
        {"{" LOCAL ",'routes':{'r':{'try':['l/x']}},'cache':{'on':false,'embed_model':'r'}}",
         "cache.embed_model: expected a model, not a route"},
        {"{'providers':{'anthropic':{'key':'k'}},'cache':{'on':false,'embed_model':'anthropic/x'}}",
         "cache.embed_model: its provider's dialect gives no embeddings"},
        {"{'cache':{'on':false,'max_ask_bytes':8193}}", "cache.max_ask_bytes: expected 1 to 8192"},
        {ROUTE("'ttl':'soon'"), "routes.r.ttl: expected seconds"},
        {ROUTE("'ttl':-1"), "routes.r.ttl: expected seconds"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) expect_bad(rows[i][0], rows[i][1]);
    llmgw_options options = from_json(NULL);
    options.cache.on = true;
    unit_has(open_bad(&options).text, "cache.on: needs store.path");
    options = from_json(NULL);
    options.cache.embed = no_vector;
    unit_has(open_bad(&options).text, "cache.embed_dim: expected 1 to 4,096");
    options = from_json("{" LOCAL "}");
    options.cache.embed = no_vector;
    options.cache.embed_dim = 3;
    options.cache.embed_model = "l/e";
    unit_has(open_bad(&options).text, "cache.embed_model: not together with embed");
    llmgw_route route;
    options = from_route(&route, 1);
    route.ttl_s = -2;
    unit_has(open_bad(&options).text, "options.routes[0].ttl_s: expected seconds, 0 or LLMGW_OFF");
}

/* A judge may be a route, an alias, or a model of the only provider. */
static void test_durable_judges(void **state) {
    static const char *const judges[] = {"l/x", "j", "r", "bare"};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(judges); i++) {
        llmgwi_config config;
        llmgw_options options =
            from_json("{" LOCAL "," STORE ",'models':{'j':{'provider':'l'}},'routes':{'r':{'try':['l/x']}}}");
        options.cache.on = true;
        options.cache.judge = judges[i];
        open_good(&config, &options);
        assert_string_equal(config.options.cache.judge, judges[i]);
        llmgwi_config_close(&config);
    }
}

/* The ranges of all numbers, from C. */
static void test_durable_ranges(void **state) {
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_config_durables); i++) {
        const llmgwi_config_durable *row = &llmgwi_config_durables[i];
        bool usd = row->type == LLMGWI_CONFIG_USD;
        double step = usd ? 0.001 : 1,
               values[] = {row->low, row->high, row->low - step, row->high + step, -1, -2};
        if (row->type == LLMGWI_CONFIG_TEXT || row->type == LLMGWI_CONFIG_BOOL ||
            row->type == LLMGWI_CONFIG_SEAL)
            continue;
        for (size_t v = 0; v < LLMGWI_BASE_COUNT(values); v++) {
            llmgw_options options = from_json(NULL);
            llmgwi_config config;
            double value = values[v];
            if ((row->type == LLMGWI_CONFIG_INT && (value > INT_MAX || value < INT_MIN)) ||
                (row->type == LLMGWI_CONFIG_SIZE && value < 0))
                continue;
            llmgwi_config_durable_put(row, (char *)&options, value);
            if (value == 0 && !usd) continue; /* the default */
            if ((value >= row->low && value <= row->high) || (row->off && value == -1)) {
                open_good(&config, &options);
                assert_true(llmgwi_config_durable_get(row, (const char *)&config.options) == value);
                llmgwi_config_close(&config);
            } else {
                llmgw_error error = open_bad(&options);
                unit_has(error.text, row->name);
                unit_has(error.text, ": expected ");
            }
        }
    }
}

/* Every field of the two structs is in the table, but for functions and what they are given: else a file's value
   would be lost. */
static void test_durable_is_complete(void **state) {
    size_t bytes = 0;
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_config_durables); i++) {
        llmgwi_config_type type = llmgwi_config_durables[i].type;
        bytes += type == LLMGWI_CONFIG_BOOL    ? sizeof(bool)
                 : type == LLMGWI_CONFIG_INT   ? sizeof(int)
                 : type == LLMGWI_CONFIG_BYTES ? sizeof(int64_t)
                 : type == LLMGWI_CONFIG_USD   ? sizeof(llmgw_opt)
                                               : sizeof(void *);
    }
    bytes += 4 * sizeof(void *);
    /* with ledger, prices, prices_check_s, keys_required */
    size_t all = sizeof(llmgw_store) + sizeof(llmgw_cache) + sizeof(llmgw_ledger) + sizeof(void *) + 8;
    assert_in_range(bytes, all - 64, all); /* padding; the next field would be seen by the rows below */
    const llmgwi_config_field *lists[] = {llmgwi_config_store_fields, llmgwi_config_cache_fields,
                                          llmgwi_config_ledger_fields};
    static const char *const prefixes[] = {"store", "cache", "ledger"};
    const size_t begins[] = {offsetof(llmgw_options, store), offsetof(llmgw_options, cache),
                             offsetof(llmgw_options, ledger)};
    for (size_t l = 0; l < LLMGWI_BASE_COUNT(lists); l++)
        for (const llmgwi_config_field *field = lists[l]; field->name; field++) {
            char name[80];
            size_t found = 0;
            snprintf(name, sizeof name, "%s.%s", prefixes[l], field->name);
            for (size_t i = 0; i < LLMGWI_BASE_COUNT(llmgwi_config_durables); i++)
                found += strcmp(llmgwi_config_durables[i].name, name) == 0 &&
                         llmgwi_config_durables[i].at == field->at + begins[l];
            if (found != 1) fail_msg("%s", name);
        }
}

/* Budgets: one row of the table for each limit that is set; C wins over the file. */
static void test_budgets(void **state) {
    llmgwi_config config;
    llmgw_options options =
        from_json("{" LOCAL ",'store':{'path':'x'},'budget':{'per_day_usd':20,'total_usd':0.000000000001},"
                  "'budgets':{'team':{'tag':'a "
                  "b','per_month_usd':9000000,'soft':true,'cheaper':'l/tiny','allow_unknown':true},"
                  "'k':{'key':'ci','per_day_usd':0},'r':{'route':'l/x','total_usd':1.5}}}");
    static const struct {
        const char *name, *of, *cheaper;
        char kind;
        int per;
        int64_t pico;
        bool soft;
    } rows[] = {{"team", "a b", "l/tiny", 't', 1, 9000000000000000000, true},
                {"k", "ci", NULL, 'k', 0, 0, false},
                {"r", "l/x", NULL, 'r', 2, 1500000000000, false},
                {"budget", "", NULL, 'a', 0, 20000000000000, false},
                {"budget", "", NULL, 'a', 2, 1, false}};
    open_good(&config, &options);
    assert_int_equal(config.budget_count, LLMGWI_BASE_COUNT(rows));
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) {
        const llmgwi_config_budget *got = &config.budgets[i];
        assert_string_equal(got->name, rows[i].name);
        assert_string_equal(got->of, rows[i].of);
        assert_string_equal(got->cheaper ? got->cheaper : "-", rows[i].cheaper ? rows[i].cheaper : "-");
        assert_int_equal(got->kind, rows[i].kind);
        assert_int_equal(got->per, rows[i].per);
        assert_int_equal(got->limit_pico, rows[i].pico);
        assert_int_equal(got->soft, rows[i].soft);
        assert_int_equal(got->allow_unknown, rows[i].soft);
    }
    llmgwi_config_close(&config);
    llmgw_budget own[2];
    memset(own, 0, sizeof own);
    own[0].name = "r";
    own[0].per_day_usd = llmgw_set(3);
    own[1].name = "mine";
    own[1].key = "x";
    own[1].per_day_usd = llmgw_set(4);
    options.budgets = own;
    options.budget_count = 2;
    options.budget.per_month_usd = llmgw_set(7);
    open_good(&config, &options);
    assert_int_equal(config.budget_count, 5); /* r and mine of C, team and k of the file, C's own */
    assert_int_equal(config.budgets[0].limit_pico, 3000000000000);
    assert_int_equal(config.budgets[0].kind, 'a');
    assert_int_equal(config.budgets[4].per, 1);
    llmgwi_config_close(&config);
    own[1].name = "r";
    unit_has(open_bad(&options).text, "options.budgets[1].name: defined twice");
    options.budgets = NULL;
    unit_has(open_bad(&options).text, "a count without its array");
}

static void test_wrong_money(void **state) {
#define STORED ",'store':{'path':'x'}"
    static const char *const rows[][2] = {
        {"{'budget':{'per_day_usd':20}}", "budget: needs store.path"},
        {"{'keys_required':true}", "keys_required: needs store.path"},
        {"{" LOCAL STORED ",'budget':{'soft':true}}", "budget.per_day_usd: required"},
        {"{" LOCAL STORED ",'budgets':{'a':{}}}", "budgets.a.per_day_usd: required"},
        {"{" LOCAL STORED ",'budgets':{'a b':{'total_usd':1}}}", "budgets.a b.name: expected"},
        {"{" LOCAL STORED ",'budgets':{'a':{'total_usd':1,'key':'k','tag':'t'}}}", "at most one of them"},
        {"{" LOCAL STORED ",'budgets':{'a':{'total_usd':1,'tag':''}}}", "budgets.a.tag: empty"},
        {"{" LOCAL STORED ",'budgets':{'a':{'total_usd':9000001}}}",
         "budgets.a.total_usd: expected 0 to 9,000,000"},
        {"{" LOCAL STORED ",'budgets':{'a':{'total_usd':-1}}}",
         "budgets.a.total_usd: expected 0 to 9,000,000"},
        {"{" LOCAL STORED ",'budgets':{'a':{'total_usd':1,'cheaper':'l/x'}}}",
         "budgets.a.cheaper: only with soft"},
        {"{" LOCAL STORED ",'budgets':{'a':{'total_usd':1,'soft':true,'cheaper':'no/x'}}}",
         "budget.cheaper: model"},
        {"{" LOCAL STORED ",'ledger':{'off':true},'budget':{'total_usd':1}}",
         "ledger.off: not together with budgets"},
        {"{'prices':''}", "prices: empty"},
    };
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(rows); i++) expect_bad(rows[i][0], rows[i][1]);
}

static void test_sizes_and_times(void **state) {
    static const struct {
        const char *size;
        int64_t bytes; /* -1: refused */
    } sizes[] = {{"2097152", 2097152},
                 {"'2097152'", 2097152},
                 {"'1MiB'", 1 << 20},
                 {"'2048KiB'", 2 << 20},
                 {"'1GiB'", 1 << 30},
                 {"'16TiB'", INT64_C(16) << 40},
                 {"'1 GiB'", -1},
                 {"'1GB'", -1},
                 {"'GiB'", -1},
                 {"''", -1},
                 {"'-1GiB'", -1},
                 {"'1.5GiB'", -1},
                 {"1e9", -1},
                 {"-5", -1},
                 {"'1gib'", -1},
                 {"'9223372036854775807KiB'", -1},
                 {"'99999999999999999999'", -1},
                 {"null", -1},
                 {"'1GiB '", -1},
                 {"0", 1 << 30}};
    static const struct {
        const char *time;
        int seconds; /* -2: refused */
    } times[] = {{"45", 45},         {"'45'", -2},     {"'45s'", 45},  {"'30m'", 1800},
                 {"'12h'", 43200},   {"'7d'", 604800}, {"'off'", -1},  {"'o\\u0066f'", -1},
                 {"'OFF'", -2},      {"'1w'", -2},     {"-1", -2},     {"'24855d'", 24855 * 86400},
                 {"'24856d'", -2},   {"1.5", -2},      {"true", -2},   {"2147483647", INT_MAX},
                 {"2147483648", -2}, {"0", 604800},    {"'1d12h'", -2}};
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(sizes); i++) {
        char json[128];
        llmgwi_config config;
        snprintf(json, sizeof json, "{'store':{'max_bytes':%s}}", sizes[i].size);
        llmgw_options options = from_json(json);
        if (sizes[i].bytes < 0) {
            unit_has(open_bad(&options).text,
                     "store.max_bytes: expected a number of bytes or a text like \"64MiB\"");
            continue;
        }
        open_good(&config, &options);
        if (config.options.store.max_bytes != sizes[i].bytes) fail_msg("%s", sizes[i].size);
        llmgwi_config_close(&config);
    }
    for (size_t i = 0; i < LLMGWI_BASE_COUNT(times); i++) {
        char json[256];
        llmgwi_config config;
        snprintf(json, sizeof json,
                 "{" LOCAL ",'cache':{'on':false,'ttl':%s},'routes':{'r':{'try':['l/x'],'ttl':%s}}}",
                 times[i].time, times[i].time);
        llmgw_options options = from_json(json);
        if (times[i].seconds == -2) {
            unit_has(open_bad(&options).text, "cache.ttl: expected seconds, a text like \"45s\"");
            continue;
        }
        open_good(&config, &options);
        if (config.options.cache.ttl_s != times[i].seconds) fail_msg("%s", times[i].time);
        assert_int_equal(config.routes[0]->ttl_s, strcmp(times[i].time, "0") ? times[i].seconds : 0);
        llmgwi_config_close(&config);
    }
}

/* The key's digits are redacted like any key, and leave no trace in freed memory, decoded or not. */
static void test_store_key_is_secret(void **state) {
    static const char hex[] =
        "5345435245544d41524b5345435245544d41524b5345435245544d41524b4142"; /* KEY_MARK in it */
    char json[256];
    setenv("UNIT_KEY", hex, 1);
    for (int i = 0; i < 4; i++) {
        static const char *const tails[] = {"", ",'deadline_ms':'x'"};
        watch w;
        llmgwi_config config;
        llmgw_error error;
        memset(&w, 0, sizeof w);
        memset(&error, 0, sizeof error);
        llmgwi_base_mem mem = {watched, &w};
        snprintf(json, sizeof json, "{'store':{'key':'%s'}%s}", i & 1 ? "env:UNIT_KEY" : hex, tails[i / 2]);
        llmgw_options options = from_json(json);
        assert_int_equal(llmgwi_config_open(&config, &mem, &options, &error), i < 2);
        char text[200];
        snprintf(text, sizeof text, "key %s!", hex);
        llmgwi_config_redact(&config, text);
        assert_string_equal(text, "key [key]!");
        if (i < 2) assert_memory_equal(config.options.store.key, KEY_MARK KEY_MARK KEY_MARK "AB", 32);
        llmgwi_config_close(&config);
        assert_int_equal(w.found, 0);
        assert_int_equal(w.wrong_size, 0);
        assert_int_equal(w.live, 0);
    }
}

#define WITH_ENVIRONMENT(f) cmocka_unit_test_setup(f, clean_environment)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_ENVIRONMENT(test_design_file),
        WITH_ENVIRONMENT(test_wrong_types),
        WITH_ENVIRONMENT(test_all_fields),
        WITH_ENVIRONMENT(test_later_fields),
        WITH_ENVIRONMENT(test_wrong_values),
        WITH_ENVIRONMENT(test_not_json),
        WITH_ENVIRONMENT(test_duplicates),
        WITH_ENVIRONMENT(test_long_names),
        WITH_ENVIRONMENT(test_name_lengths),
        WITH_ENVIRONMENT(test_precedence),
        WITH_ENVIRONMENT(test_known_names),
        WITH_ENVIRONMENT(test_environment_alone),
        WITH_ENVIRONMENT(test_keys),
        WITH_ENVIRONMENT(test_several_keys),
        WITH_ENVIRONMENT(test_several_keys_from_c),
        WITH_ENVIRONMENT(test_headers_of_each_lane),
        WITH_ENVIRONMENT(test_region),
        WITH_ENVIRONMENT(test_limits),
        WITH_ENVIRONMENT(test_limits_of_models),
        WITH_ENVIRONMENT(test_limits_of_models_from_c),
        WITH_ENVIRONMENT(test_routes),
        WITH_ENVIRONMENT(test_routes_from_c),
        WITH_ENVIRONMENT(test_bad_routes_from_c),
        WITH_ENVIRONMENT(test_too_many_weights),
        WITH_ENVIRONMENT(test_dialect_does_not_bring_the_key),
        WITH_ENVIRONMENT(test_responses_of_a_known_name),
        WITH_ENVIRONMENT(test_responses_of_a_model),
        WITH_ENVIRONMENT(test_local_key_stays_local),
        WITH_ENVIRONMENT(test_listed),
        WITH_ENVIRONMENT(test_insecure),
        WITH_ENVIRONMENT(test_headers),
        WITH_ENVIRONMENT(test_header_injection),
        WITH_ENVIRONMENT(test_header_counts),
        WITH_ENVIRONMENT(test_urls),
        WITH_ENVIRONMENT(test_urls_against_curl),
        WITH_ENVIRONMENT(test_damaged_file),
        WITH_ENVIRONMENT(test_ollama_host),
        WITH_ENVIRONMENT(test_ollama_host_odd),
        WITH_ENVIRONMENT(test_aws),
        WITH_ENVIRONMENT(test_aws_found),
        WITH_ENVIRONMENT(test_redact),
        WITH_ENVIRONMENT(test_redact_several_keys),
        WITH_ENVIRONMENT(test_redact_header_words),
        WITH_ENVIRONMENT(test_caps),
        WITH_ENVIRONMENT(test_defaults_as_documented),
        WITH_ENVIRONMENT(test_off_as_documented),
        WITH_ENVIRONMENT(test_numbers_of_the_file),
        WITH_ENVIRONMENT(test_too_many_targets),
        WITH_ENVIRONMENT(test_too_many_names),
        WITH_ENVIRONMENT(test_counts_without_arrays),
        WITH_ENVIRONMENT(test_c_descriptions_are_named),
        WITH_ENVIRONMENT(test_config_path),
        WITH_ENVIRONMENT(test_config_path_unreadable),
        WITH_ENVIRONMENT(test_config_path_size),
        WITH_ENVIRONMENT(test_ca_file),
        WITH_ENVIRONMENT(test_resolve),
        WITH_ENVIRONMENT(test_price_by_any_name),
        WITH_ENVIRONMENT(test_only_provider),
        WITH_ENVIRONMENT(test_keys_are_wiped),
        WITH_ENVIRONMENT(test_keys_are_wiped_after_failure),
        WITH_ENVIRONMENT(test_budgets),
        WITH_ENVIRONMENT(test_wrong_money),
        WITH_ENVIRONMENT(test_durable_defaults),
        WITH_ENVIRONMENT(test_durable_file),
        WITH_ENVIRONMENT(test_durable_from_c),
        WITH_ENVIRONMENT(test_durable_choices),
        WITH_ENVIRONMENT(test_durable_wrong),
        WITH_ENVIRONMENT(test_durable_judges),
        WITH_ENVIRONMENT(test_durable_ranges),
        WITH_ENVIRONMENT(test_durable_is_complete),
        WITH_ENVIRONMENT(test_sizes_and_times),
        WITH_ENVIRONMENT(test_store_key_is_secret),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
