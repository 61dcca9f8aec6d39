/* asking.h - questions in many wordings and their answers, as the tests that put the fake provider's oracle behind a
 * gateway share them. Question i is one of intent i % ASKING_INTENTS. */
#ifndef ASKING_H
#define ASKING_H

#include "testing.h"

enum {
    ASKING_INTENTS = 60,
    ASKING_QUESTIONS = 3000,
    ASKING_MOST = 60 * 8 * 10 * 12 /* different ones that there are */
};

static const char *const asking_subjects[ASKING_INTENTS] = {
    "invoice", "password", "passport", "kitchen",   "umbrella", "bicycle", "server",   "ticket",   "garden",
    "engine",  "printer",  "window",   "contract",  "blanket",  "camera",  "dentist",  "piano",    "ladder",
    "mirror",  "carpet",   "lantern",  "saddle",    "anchor",   "kettle",  "wallet",   "scanner",  "blender",
    "curtain", "helmet",   "compass",  "fountain",  "chimney",  "mailbox", "necklace", "pillow",   "radiator",
    "shutter", "tractor",  "violin",   "wardrobe",  "balcony",  "candle",  "drawer",   "elevator", "freezer",
    "guitar",  "hammock",  "jacket",   "keyboard",  "locker",   "magnet",  "notebook", "oven",     "parcel",
    "quilt",   "raincoat", "sofa",     "telescope", "vacuum",   "zipper"};

/* What an intent is about: a deed, a thing and a place. Wordings differ in all else. */
T_FN void asking_question(size_t i, char *out, size_t size) {
    static const char *const deeds[] = {"renew", "insure", "repair", "cancel",  "borrow", "paint",
                                        "ship",  "clean",  "return", "measure", "sell",   "replace"};
    static const char *const places[] = {"cellar",   "office",  "harbour", "village", "airport",
                                         "hospital", "library", "garage",  "stable",  "museum",
                                         "workshop", "school",  "bakery"};
    static const char *const forms[] = {
        "How do I %s my %s in the %s%s?",    "Please tell me how I can %s my %s in the %s%s",
        "%s my %s from the %s: how%s?",      "I would like to %s my %s at the %s%s, how?",
        "%s the %s of the %s%s, please",     "What do I do to %s the %s in the %s%s?",
        "To %s my %s at the %s%s, any help", "Can you explain how to %s a %s in the %s%s?"};
    static const char *const tails[] = {"",           " online", " then",      " by myself", " quickly",
                                        " this week", " now",    " with help", " cheaply",   " properly"};
    static const char *const starts[] = {
        "",       "Hello, ",          "Good morning! ", "Hi there, ", "Dear team, ", "Sorry, ",
        "Well, ", "One more thing: ", "Oh, ",           "Tell me: ",  "Folks, ",     "Once again: "};
    size_t k = i % ASKING_INTENTS;
    int n = snprintf(out, size, "%s", starts[i / 4800 % 12]);
    snprintf(out + n, size - (size_t)n, forms[i / 60 % 8], deeds[k % 12], asking_subjects[k], places[k % 13],
             tails[i / 480 % 10]);
}

/* Some 300 to 1,400 bytes that share few words with another's; less if size says so. */
T_FN void asking_answer(size_t intent, char *out, size_t size) {
    size_t n = (size_t)snprintf(out, size, "The office of the %s:", asking_subjects[intent]);
    uint64_t x = intent + 1;
    for (size_t words = 30 + intent * 2; words && n + 16 < size; words--) {
        out[n++] = ' ';
        x = llmgwi_base_mix(x);
        for (int c = 0; c < 8; c++) out[n++] = (char)('a' + (x >> (8 * c)) % 26);
    }
    out[n] = 0;
}

/* Is this what the provider says to question i? Its answer, unless the oracle has changed it to two made-up words. */
T_FN bool asking_is_answer(size_t i, const char *text, bool changes) {
    char want[2048];
    asking_answer(i % ASKING_INTENTS, want, sizeof want);
    return strcmp(text, want) == 0 || (changes && strlen(text) == 13 && text[6] == '_');
}

T_FN void asking_oracle(const char *path, size_t count, size_t answer_bytes) {
    char question[160], answer[2048];
    FILE *file = fopen(path, "w");
    if (!file) exit(3);
    for (size_t i = 0; i < count; i++) {
        asking_question(i, question, sizeof question);
        asking_answer(i % ASKING_INTENTS, answer,
                      answer_bytes < sizeof answer ? answer_bytes : sizeof answer);
        fprintf(file, "%s\t%s\n", question, answer);
    }
    fclose(file);
}

#endif
