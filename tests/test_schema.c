/* JSON Schema: what passes, what does not and why, bounds on work; fences. In the samples ' stands for ". */
#include "unit.h"

static bool valid(const char *schema, const char *json, char *why, size_t size) {
    return llmgwi_schema_valid(llmgwi_base_cstr(unit_quoted(schema)), llmgwi_base_cstr(unit_quoted(json)), 64,
                               why, size);
}

typedef struct sample {
    const char *schema, *json;
    const char *why; /* NULL: it is valid */
} sample;

static void check_all(const sample *samples, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char why[256] = "untouched";
        bool good = valid(samples[i].schema, samples[i].json, why, sizeof why);
        const char *want = samples[i].why ? unit_quoted(samples[i].why) : "";
        if (good != !samples[i].why || strcmp(why, want) != 0)
            fail_msg("%s over %s: %s, '%s' instead of '%s'", samples[i].schema, samples[i].json,
                     good ? "valid" : "invalid", why, want);
        assert_int_equal(valid(samples[i].schema, samples[i].json, NULL, 0), good);
    }
}
#define check(samples) check_all(samples, sizeof samples / sizeof samples[0])

static void test_types(void **state) {
    (void)state;
    static const sample samples[] = {
        {"{'type':'object'}", " {} ", NULL},
        {"{'type':'object'}", "[]", "$: expected object"},
        {"{'type':'array'}", "[1]", NULL},
        {"{'type':'string'}", "'x'", NULL},
        {"{'type':'string'}", "1", "$: expected string"},
        {"{'type':'number'}", "-1.5e3", NULL},
        {"{'type':'number'}", "'1'", "$: expected number"},
        {"{'type':'boolean'}", "true", NULL},
        {"{'type':'boolean'}", "false", NULL},
        {"{'type':'boolean'}", "null", "$: expected boolean"},
        {"{'type':'null'}", "null", NULL},
        {"{'type':'null'}", "0", "$: expected null"},
        {"{'type':'integer'}", "7", NULL},
        {"{'type':'integer'}", "7.0", NULL},
        {"{'type':'integer'}", "1e30", NULL},
        {"{'type':'integer'}", "7.5", "$: expected integer"},
        {"{'type':'integer'}", "'7'", "$: expected integer"},
        {"{'type':['string','null']}", "null", NULL},
        {"{'type':['string','integer']}", "1.5", "$: expected ['string','integer']"},
        {"{'type':'obj\\u0065ct'}", "{}", NULL},
        {"true", "1", NULL},
        {"false", "1", "$: expected nothing here"},
        {"{'unknown':5,'format':'date'}", "1", NULL},
    };
    check(samples);
}

static void test_objects(void **state) {
    (void)state;
    static const sample samples[] = {
        {"{'required':['a','b']}", "{'b':1,'a':2}", NULL},
        {"{'required':['a','b']}", "{'b':1}", "$: expected a member 'a'"},
        {"{'required':['a']}", "[]", NULL},
        {"{'required':['\\u00e4']}", "{'\xC3\xA4':1}", NULL},
        {"{'required':['\xC3\xA4']}", "{'\\u00E4':1}", NULL},
        {"{'required':['\\u00e4']}", "{'\xC3\xB6':1}", "$: expected a member '\\u00e4'"},
        {"{'properties':{'a':{'type':'string'}}}", "{'a':'x','b':1}", NULL},
        {"{'properties':{'a':{'type':'string'}}}", "{'b':'x','a':1}", "$.a: expected string"},
        {"{'properties':{'a':false}}", "{'a':1}", "$.a: expected nothing here"},
        {"{'properties':{'a':true},'additionalProperties':false}", "{'a':1}", NULL},
        {"{'properties':{'a':true},'additionalProperties':false}", "{'a':1,'b':2}",
         "$.b: expected no such member"},
        {"{'additionalProperties':false}", "{'b':2}", "$.b: expected no such member"},
        {"{'additionalProperties':{'type':'number'}}", "{'b':2}", NULL},
        {"{'additionalProperties':{'type':'number'},'properties':{'c':{}}}", "{'c':'','b':''}",
         "$.b: expected number"},
        {"{'patternProperties':{'^b':{}},'additionalProperties':false}", "{'b':2}", NULL},
        {"{'properties':{'items':{'items':{'properties':{'price':{'type':'number'}}}}}}",
         "{'items':[{'price':1},{},{'price':'2'}]}", "$.items[2].price: expected number"},
    };
    check(samples);
}

static void test_values(void **state) {
    (void)state;
    static const sample samples[] = {
        {"{'enum':['a','b']}", "'b'", NULL},
        {"{'enum':['a','b']}", "'c'", "$: expected one of ['a','b']"},
        {"{'enum':['a\\u00e9\\ud83d\\ude00']}", "'\\u0061\xC3\xA9\xF0\x9F\x98\x80'", NULL},
        {"{'enum':['ab']}", "'a'", "$: expected one of ['ab']"},
        {"{'const':'\\u0000a'}", "'\\u0000b'", "$: expected '\\u0000a'"},
        {"{'maxLength':2}", "'\\ud83dabcdef'", "$: expected a length in characters <= 2"},
        {"{'const':'\\ud83d\\ud83d\\ude00'}", "'\xEF\xBF\xBD\xF0\x9F\x98\x80'", NULL},
        {"{'const':1}", "1.0", NULL},
        {"{'const':9007199254740993}", "9007199254740992", "$: expected 9007199254740993"},
        {"{'const':{'a':[1,{'b':null}],'c':2}}", "{'c':2,'a':[1,{'b':null}]}", NULL},
        {"{'const':{'a':1}}", "{'a':1,'b':2}", "$: expected {'a':1}"},
        {"{'const':{'a':1,'b':2}}", "{'a':1}", "$: expected {'a':1,'b':2}"},
        {"{'const':[1,2]}", "[1]", "$: expected [1,2]"},
        {"{'const':[1]}", "[1,2]", "$: expected [1]"},
        {"{'const':[]}", "{}", "$: expected []"},
        {"{'minimum':3}", "3", NULL},
        {"{'minimum':3}", "2.9", "$: expected a number >= 3"},
        {"{'maximum':3}", "3", NULL},
        {"{'maximum':3}", "4", "$: expected a number <= 3"},
        {"{'exclusiveMinimum':3}", "3.1", NULL},
        {"{'exclusiveMinimum':3}", "3", "$: expected a number > 3"},
        {"{'exclusiveMaximum':3}", "2", NULL},
        {"{'exclusiveMaximum':3}", "3", "$: expected a number < 3"},
        {"{'minimum':3}", "'x'", NULL},
        {"{'minimum':'x'}", "1", NULL},
        {"{'minLength':2}", "'\xC3\xA4'", "$: expected a length in characters >= 2"},
        {"{'maxLength':2}", "'\xC3\xA4\xF0\x9F\x98\x80'", NULL},
        {"{'maxLength':2}", "'\\ud83d\\ude00\\n'", NULL},
        {"{'maxLength':2}", "'abc'", "$: expected a length in characters <= 2"},
        {"{'minItems':1}", "[]", "$: expected a number of items >= 1"},
        {"{'minItems':2}", "[[1,2],[3]]", NULL},
        {"{'maxItems':1}", "[1,2]", "$: expected a number of items <= 1"},
        {"{'items':{'type':'number'}}", "[1,2,'3']", "$[2]: expected number"},
        {"{'items':[{'type':'string'}]}", "[1]", NULL},
        {"{'prefixItems':[{}],'items':false}", "[1]", NULL},
    };
    check(samples);
}

static void test_combinations(void **state) {
    (void)state;
    static const sample samples[] = {
        {"{'anyOf':[{'type':'string'},{'type':'null'}]}", "null", NULL},
        {"{'anyOf':[{'type':'string'},{'type':'null'}]}", "1", "$: fits none of anyOf"},
        {"{'oneOf':[{'type':'integer'},{'minimum':5}]}", "3", NULL},
        {"{'oneOf':[{'type':'integer'},{'minimum':5}]}", "6", "$: fits more than one of oneOf"},
        {"{'oneOf':[{'type':'integer'},{'minimum':5}]}", "2.5", "$: fits none of oneOf"},
        {"{'allOf':[{'type':'integer'},{'minimum':5}]}", "6", NULL},
        {"{'allOf':[{'type':'integer'},{'minimum':5}]}", "4", "$: expected a number >= 5"},
        {"{'$defs':{'n':{'type':'number'}},'items':{'$ref':'#/$defs/n'}}", "[1]", NULL},
        {"{'$defs':{'n':{'type':'number'}},'items':{'$ref':'#/$defs/n'}}", "['']", "$[0]: expected number"},
        {"{'definitions':{'n':{'type':'null'}},'$ref':'#/definitions/n'}", "1", "$: expected null"},
        {"{'$ref':'#/$defs/x'}", "1", "$: the schema does not have '#/$defs/x'"},
        {"{'$ref':'http://x'}", "1", "$: the schema does not have 'http://x'"},
        {"{'properties':{'next':{'$ref':'#'},'v':{'type':'number'}}}", "{'next':{'next':{'v':1}}}", NULL},
        {"{'properties':{'next':{'$ref':'#'},'v':{'type':'number'}}}", "{'next':{'next':{'v':''}}}",
         "$.next.next.v: expected number"},
        {"{'$ref':'#'}", "1", "too complex"},
    };
    check(samples);
}

static void test_bad_text(void **state) {
    (void)state;
    static const sample samples[] = {
        {"{}", "{'a':}", "bad JSON at byte 5: expected a value"},
        {"{}", "", "bad JSON at byte 0: unexpected end"},
        {"{}", "1 2", "bad JSON at byte 2: text after the value"},
        {"{'type':", "1", "bad schema at byte 8: unexpected end"},
    };
    char why[80];
    check(samples);
    assert_true(llmgwi_schema_valid(llmgwi_base_cstr("{}"), llmgwi_base_cstr("[[]]"), 2, why, sizeof why));
    assert_false(llmgwi_schema_valid(llmgwi_base_cstr("{}"), llmgwi_base_cstr("[[[]]]"), 2, why, sizeof why));
    assert_string_equal(why, "bad JSON at byte 2: nested too deeply");
}

/* Alternatives that double at each level, and a long text that is read again for each name. */
static void test_bounds(void **state) {
    (void)state;
    char why[80];
    const char *bomb = "{'$defs':{'a':{'oneOf':[{'$ref':'#/$defs/b'},{'$ref':'#/$defs/b'}]},"
                       "'b':{'anyOf':[{'$ref':'#/$defs/c'},{'$ref':'#/$defs/c'}]},"
                       "'c':{'oneOf':[{'$ref':'#/$defs/a'},{'$ref':'#/$defs/a'}]}},'$ref':'#/$defs/a'}";
    assert_false(valid(bomb, "1", why, sizeof why));
    assert_string_equal(why, "too complex");
    static char names[4096] = "{\"required\":[\"a\"", text[1 << 20];
    for (int i = 0; i < 500; i++) strcat(names, ",\"a\"");
    strcat(names, "]}");
    memset(text, ' ', sizeof text);
    memcpy(text, "{\"a\":1", 6);
    text[sizeof text - 1] = '}';
    llmgwi_base_str json = llmgwi_base_view(text, sizeof text);
    assert_false(llmgwi_schema_valid(llmgwi_base_cstr(names), json, 9, why, sizeof why));
    assert_string_equal(why, "too complex");
    assert_true(llmgwi_schema_valid(llmgwi_base_cstr("{\"required\":[\"a\"]}"), json, 9, why, sizeof why));
    /* as deep as the depth allows, and one deeper */
    static char deep[1024];
    for (int levels = 100; levels < 140; levels++) {
        memset(deep, '[', (size_t)levels);
        memset(deep + levels, ']', (size_t)levels);
        llmgwi_base_str nested = llmgwi_base_view(deep, (size_t)levels * 2);
        bool good = llmgwi_schema_valid(llmgwi_base_cstr("{\"items\":{\"$ref\":\"#\"}}"), nested, 1000, why,
                                        sizeof why);
        assert_int_equal(good, levels * 2 - 1 <= LLMGWI_SCHEMA_DEPTH);
        good = llmgwi_schema_valid(llmgwi_base_cstr("{}"), nested, 1000, why, sizeof why);
        assert_true(good);
    }
}

/* Grows a text: a head, count times a piece in which %d is the number, a tail. */
static char *grown(const char *head, const char *piece, int count, const char *tail) {
    size_t room = strlen(head) + strlen(tail) + (size_t)count * (strlen(piece) + 12) + 1, n;
    char *text = (char *)malloc(room);
    assert_non_null(text);
    n = (size_t)snprintf(text, room, "%s", head);
    for (int i = 0; i < count; i++) n += (size_t)snprintf(text + n, room - n, piece, i, i + 1);
    snprintf(text + n, room - n, "%s", tail);
    for (char *p = text; *p; p++)
        if (*p == '\'') *p = '"';
    return text;
}

/* Schemas and answers made to cost much: each ends soon, by the bound if not by itself. */
static void test_adversarial(void **state) {
    (void)state;
    static const struct {
        const char *name, *schema[3], *json[3];
        int schema_count, json_count;
        const char *why; /* NULL: valid */
    } samples[] = {
        {"a ring of $ref",
         {"{'$defs':{'x':{'$ref':'#/$defs/y'}", "", ",'y':{'$ref':'#/$defs/x'}},'$ref':'#/$defs/x'}"},
         {"1", "", ""},
         0,
         0,
         "too complex"},
        {"a ring through anyOf",
         {"{'$defs':{'x':{'anyOf':[{'$ref':'#/$defs/x'}", "", ",true]}},'$ref':'#/$defs/x'}"},
         {"1", "", ""},
         0,
         0,
         "too complex"},
        {"a chain of $ref",
         {"{'$defs':{'z':true", ",'d%d':{'$ref':'#/$defs/d%d'}", ",'d20000':true},'$ref':'#/$defs/d0'}"},
         {"1", "", ""},
         20000,
         0,
         "too complex"},
        {"a long $ref",
         {"{'$ref':'#", "/a%d", "'}"},
         {"1", "", ""},
         20000,
         0,
         "$: the schema does not have what the schema says"},
        {"a huge enum, many values",
         {"{'items':{'enum':['z'", ",'value-%d'", "]}}"},
         {"[0", ",%d", "]"},
         50000,
         5000,
         "$[0]: expected one of what the schema says"},
        {"a huge enum, fitting last",
         {"{'items':{'enum':['z'", ",'value-%d'", "]}}"},
         {"['z'", ",'value-49999'", "]"},
         50000,
         5000,
         "too complex"},
        {"anyOf within anyOf",
         {"{'$defs':{'x':{'anyOf':[{'type':'null'}", ",{'type':'array','items':{'$ref':'#/$defs/x'}}",
          "]}},'$ref':'#/$defs/x'}"},
         {"[[[[[[[[['a'", "", "]]]]]]]]]"},
         20,
         0,
         "too complex"},
        {"oneOf of many that all fit",
         {"{'oneOf':[{'type':'string'}", ",{'minimum':0}", "]}"},
         {"1", "", ""},
         50000,
         0,
         "$: fits more than one of oneOf"},
        {"allOf of many", {"{'allOf':[{}", ",{'type':'integer'}", "]}"}, {"1", "", ""}, 50000, 0, NULL},
        {"many required members",
         {"{'required':['a0'", ",'a%d'", "]}"},
         {"{'z':0", ",'a%d':0", "}"},
         20000,
         20000,
         "too complex"},
        {"many properties",
         {"{'additionalProperties':false,'properties':{'z':{}", ",'a%d':{}", "}}"},
         {"{'z':0", ",'a%d':0", "}"},
         20000,
         20000,
         "too complex"},
        {"a huge const",
         {"{'const':{'z':0", ",'a%d':[0]", "}}"},
         {"{'z':0", ",'a%d':[0]", "}"},
         20000,
         20000,
         "too complex"},
        {"a long string",
         {"{'maxLength':10}", "", ""},
         {"'", "0123456789%d", "'"},
         0,
         100000,
         "$: expected a length in characters <= 10"},
        {"many items", {"{'items':{'type':'integer'}}", "", ""}, {"[0", ",%d", "]"}, 0, 100000, NULL},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        char why[128];
        char *schema =
            grown(samples[i].schema[0], samples[i].schema[1], samples[i].schema_count, samples[i].schema[2]);
        char *json = grown(samples[i].json[0], samples[i].json[1], samples[i].json_count, samples[i].json[2]);
        clock_t began = clock();
        bool good =
            llmgwi_schema_valid(llmgwi_base_cstr(schema), llmgwi_base_cstr(json), 128, why, sizeof why);
        double took = (double)(clock() - began) / CLOCKS_PER_SEC;
        if (good != !samples[i].why || strcmp(why, samples[i].why ? samples[i].why : "") != 0)
            fail_msg("%s: %s, '%s'", samples[i].name, good ? "valid" : "invalid", why);
        if (took > (getenv("LLMGW_SANITIZED") ? 30 : 3)) fail_msg("%s: %.1f s", samples[i].name, took);
        if (getenv("SHOW")) printf("%-28s %.3f s %s\n", samples[i].name, took, why);
        free(schema);
        free(json);
    }
}

static void test_why_of_every_size(void **state) {
    (void)state;
    static const char *schema = "{'additionalProperties':{'type':'number'}}",
                      *json = "{'\xC3\xA4\xF0\x9F\x98\x80':''}";
    static const char want[] = "$.\xC3\xA4\xF0\x9F\x98\x80: expected number";
    for (size_t size = 1; size < sizeof want + 3; size++) {
        char *why = (char *)malloc(size);
        assert_non_null(why);
        assert_false(valid(schema, json, why, size));
        assert_true(strlen(why) < size && strncmp(why, want, strlen(why)) == 0 && unit_is_utf8(why));
        assert_true(strlen(why) + 4 >= (size < sizeof want ? size : sizeof want));
        free(why);
    }
    char why[512];
    assert_false(valid(schema, "{'a\\u0001b':''}", why, sizeof why));
    assert_string_equal(why, "$.a?b: expected number");
    char text[400] = "{\"";
    for (int i = 0; i < 50; i++) strcat(text, "\xE4\xBD\xA0");
    strcat(text, "\":0,\"x\":null}");
    assert_false(valid("{'additionalProperties':{'const':1}}", text, why, sizeof why));
    assert_true(unit_is_utf8(why) && strlen(why) < 90);
}

static void test_cut_anywhere(void **state) {
    (void)state;
    const char *json = unit_quoted("{'a':[1,{'b':'\\u00e4'},null],'c':-1.5e3}");
    const char *schema = unit_quoted("{'properties':{'a':{'items':{'type':['number','object','null']}}}}");
    char why[80];
    for (size_t n = 0; n <= strlen(json); n++) {
        char *copy = (char *)malloc(n + 1); /* so that a sanitizer sees a byte read too far */
        assert_non_null(copy);
        memcpy(copy, json, n);
        bool good =
            llmgwi_schema_valid(llmgwi_base_cstr(schema), llmgwi_base_view(copy, n), 9, why, sizeof why);
        assert_int_equal(good, n == strlen(json));
        free(copy);
    }
    for (size_t n = 0; n < strlen(schema); n++)
        assert_false(
            llmgwi_schema_valid(llmgwi_base_view(schema, n), llmgwi_base_cstr(json), 9, why, sizeof why));
}

static void test_unfence(void **state) {
    (void)state;
    static const char *const samples[][2] = {{"{\"a\":1}", "{\"a\":1}"},
                                             {" \n{} \r\n", "{}"},
                                             {"```json\n{}\n```", "{}"},
                                             {"\n```\n[1]\n```\n", "[1]"},
                                             {"~~~json5\n{}\n~~~", "{}"},
                                             {"````JSON\n{}\n````", "{}"},
                                             {"```json {} ```", "{}"},
                                             {"```json\n{\"a\":\"```\"}\n```", "{\"a\":\"```\"}"},
                                             {"```json\n{}", "{}"},
                                             {"```", ""},
                                             {"", ""},
                                             {"```json", ""},
                                             {"text ```{}```", "text ```{}```"},
                                             {"```json\ntrue\n```", "true"},
                                             {"```\n\"x\"\n```", "\"x\""}};
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        llmgwi_base_str got = llmgwi_schema_unfence(llmgwi_base_cstr(samples[i][0]));
        if (!llmgwi_base_is(got, samples[i][1])) fail_msg("%s: %.*s", samples[i][0], (int)got.n, got.p);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_types),        cmocka_unit_test(test_objects),
    cmocka_unit_test(test_values),       cmocka_unit_test(test_combinations),
    cmocka_unit_test(test_bad_text),     cmocka_unit_test(test_bounds),
    cmocka_unit_test(test_adversarial),  cmocka_unit_test(test_why_of_every_size),
    cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_unfence),
};

int main(void) { return cmocka_run_group_tests_name("schema", tests, NULL, NULL); }
