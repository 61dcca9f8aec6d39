/* fixture_streams.h - recorded streams, cut in many places. After unit.h. */
#ifndef FIXTURE_STREAMS_H
#define FIXTURE_STREAMS_H

#include "fixtures.h"

/* Feeds a recorded stream, cut at two places. */
UNIT_UNUSED static void fixture_feed(unit_answer *u, const char *provider, const char *text, size_t n,
                                     size_t a, size_t b) {
    llmgwi_frame frame;
    unit_begin(u, provider, true);
    llmgwi_frame_init(&frame, &unit_mem, (size_t)1 << 20, unit_on_frame, u);
    frame.kind = u->dialect->framing;
    bool fed = llmgwi_frame_feed(&frame, text, a) && llmgwi_frame_feed(&frame, text + a, b - a) &&
               llmgwi_frame_feed(&frame, text + b, n - b) && llmgwi_frame_finish(&frame);
    if (!fed) fail_msg("cut at %zu and %zu: %s", a, b, u->answer->error.text);
    unit_complete(u);
    llmgwi_frame_free(&frame);
}

/* A recorded stream gives the same answer however it is cut: at every place if it is short. The caller frees what u
   holds with unit_end. False: it is not there. */
UNIT_UNUSED static bool fixture_stream(unit_answer *u, const char *provider, const char *name) {
    size_t n, step;
    char *text = fixture_read(name, &n);
    if (!text) return false;
    fixture_feed(u, provider, text, n, n, n);
    step = n > 4000 ? n / 997 : 1;
    for (size_t cut = 0; cut < n; cut += step) {
        unit_answer other;
        fixture_feed(&other, provider, text, n, cut, cut + (n - cut) / 2);
        assert_string_equal(llmgwi_base_buf_cstr(&other.answer->text),
                            llmgwi_base_buf_cstr(&u->answer->text));
        assert_int_equal(other.answer->tool_count, u->answer->tool_count);
        assert_int_equal(other.answer->usage.output, u->answer->usage.output);
        assert_int_equal(other.answer->finish, u->answer->finish);
        unit_end(&other);
    }
    free(text);
    return true;
}

#endif
