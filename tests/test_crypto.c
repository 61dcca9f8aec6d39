/* test_crypto.c - SHA-256 against NIST's vectors and libsodium's, HMAC against RFC 4231's and libsodium's, and the
   comparison in constant time. */
#include "unit.h"

#include <sodium.h>

static void digest_is(const unsigned char digest[32], const char *hex) {
    char text[65];
    for (size_t i = 0; i < 32; i++) (void)snprintf(text + 2 * i, 3, "%02x", digest[i]);
    assert_string_equal(text, hex);
}

/* FIPS 180-4's examples, and those of NIST's CAVP (SHA256ShortMsg.rsp) for 1, 4 and 64 bytes; 55, 56, 63 and 64
   zeros lie on both sides of where the padding takes another block (NIST, "additional" SHA-256 examples). */
static void test_vectors(void **state) {
    static const char zeros[1000];
    static const struct {
        const char *bytes;
        size_t n;
        const char *hex;
    } vectors[] = {
        {"", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs"
         "mnopqrstnopqrstu",
         112, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
        {"\xd3", 1, "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1"},
        {"\xbd", 1, "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b"},
        {"\xc9\x8c\x8e\x55", 4, "7abc22c0ae5af26ce93dbb94433a0e0b2e119d014f8e7f65bd56c61ccccd9504"},
        {zeros, 55, "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7"},
        {zeros, 56, "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb"},
        {zeros, 57, "65a16cb7861335d5ace3c60718b5052e44660726da4cd13bb745381b235a1785"},
        {zeros, 64, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b"},
        {zeros, 1000, "541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        unsigned char digest[32];
        llmgwi_crypto_sha256_of(vectors[i].bytes, vectors[i].n, digest);
        digest_is(digest, vectors[i].hex);
    }
}

/* 1,000,000 times 'a' (FIPS 180-4's third example), in pieces that no block is a multiple of. */
static void test_million(void **state) {
    (void)state;
    static char many[997];
    unsigned char digest[32];
    llmgwi_crypto_sha256 sha;
    memset(many, 'a', sizeof many);
    llmgwi_crypto_sha256_init(&sha);
    for (size_t left = 1000000, take; left; left -= take) {
        take = left < sizeof many ? left : sizeof many;
        llmgwi_crypto_sha256_add(&sha, many, take);
    }
    llmgwi_crypto_sha256_end(&sha, digest);
    digest_is(digest, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Every length, whole and in pieces of every odd size up to 131, as libsodium says. */
static void test_lengths(void **state) {
    unsigned char bytes[300], want[32], got[32];
    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(llmgwi_base_random(NULL) >> 32);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        assert_int_equal(crypto_hash_sha256(want, bytes, n), 0);
        llmgwi_crypto_sha256_of(bytes, n, got);
        if (memcmp(got, want, sizeof got)) fail_msg("%zu bytes at once", n);
        for (size_t piece = 1 + n % 5 * 2; piece <= 131; piece += 10) {
            llmgwi_crypto_sha256 sha;
            llmgwi_crypto_sha256_init(&sha);
            for (size_t at = 0; at < n; at += piece)
                llmgwi_crypto_sha256_add(&sha, bytes + at, n - at < piece ? n - at : piece);
            llmgwi_crypto_sha256_add(&sha, NULL, 0);
            llmgwi_crypto_sha256_end(&sha, got);
            if (memcmp(got, want, sizeof got)) fail_msg("%zu bytes in pieces of %zu", n, piece);
        }
    }
}

/* More than 2^32 bits: the length that is hashed has 64. Stands in for 600 MB: the state is set, not computed. */
static void test_long_length(void **state) {
    crypto_hash_sha256_state other;
    llmgwi_crypto_sha256 sha;
    unsigned char want[32], got[32];
    (void)state;
    assert_int_equal(crypto_hash_sha256_init(&other), 0);
    other.count = (uint64_t)0x123456789A << 9; /* bits, a multiple of a block's 512 */
    assert_int_equal(crypto_hash_sha256_update(&other, (const unsigned char *)"abc", 3), 0);
    assert_int_equal(crypto_hash_sha256_final(&other, want), 0);
    llmgwi_crypto_sha256_init(&sha);
    sha.n = (uint64_t)0x123456789A << 6;
    llmgwi_crypto_sha256_add(&sha, "abc", 3);
    llmgwi_crypto_sha256_end(&sha, got);
    assert_memory_equal(got, want, sizeof got);
}

/* What a digest was made of does not stay behind. */
static void test_wiped(void **state) {
    static const unsigned char zeros[sizeof(llmgwi_crypto_sha256)];
    unsigned char digest[32];
    llmgwi_crypto_sha256 sha;
    (void)state;
    llmgwi_crypto_sha256_init(&sha);
    llmgwi_crypto_sha256_add(&sha, "a secret", 8);
    llmgwi_crypto_sha256_end(&sha, digest);
    assert_memory_equal(&sha, zeros, sizeof sha);
}

static void test_same(void **state) {
    unsigned char a[70], b[70];
    (void)state;
    assert_true(llmgwi_crypto_same(NULL, NULL, 0));
    for (size_t i = 0; i < sizeof a; i++) a[i] = b[i] = (unsigned char)(i * 37);
    for (size_t n = 0; n <= sizeof a; n++) assert_true(llmgwi_crypto_same(a, b, n));
    for (size_t at = 0; at < sizeof a; at++)
        for (int bit = 0; bit < 8; bit++) {
            b[at] = (unsigned char)(a[at] ^ 1 << bit);
            for (size_t n = 0; n <= sizeof a; n++) assert_int_equal(llmgwi_crypto_same(a, b, n), n <= at);
            b[at] = a[at];
        }
    memset(b, 0, sizeof b);
    b[3] = b[9] = 0xFF; /* two differences do not make up for each other */
    memset(a, 0, sizeof a);
    assert_false(llmgwi_crypto_same(a, b, sizeof a));
}

/* RFC 4231, test cases 1 to 4, 6 and 7. */
static void test_hmac(void **state) {
    static const char
        jefe[] = "what do ya want for nothing?",
        large[] = "Test Using Larger Than Block-Size Key - Hash Key First",
        both[] = "This is a test using a larger than block-size key and a larger than block-size data. "
                 "The key needs to be hashed before being used by the HMAC algorithm.";
    unsigned char key[131], data[50], out[32];
    (void)state;
    memset(key, 0x0b, 20);
    llmgwi_crypto_hmac(key, 20, "Hi There", 8, out);
    digest_is(out, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    llmgwi_crypto_hmac("Jefe", 4, jefe, sizeof jefe - 1, out);
    digest_is(out, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof key);
    memset(data, 0xdd, sizeof data);
    llmgwi_crypto_hmac(key, 20, data, sizeof data, out);
    digest_is(out, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    llmgwi_crypto_hmac(key, sizeof key, large, sizeof large - 1, out);
    digest_is(out, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    llmgwi_crypto_hmac(key, sizeof key, both, sizeof both - 1, out);
    digest_is(out, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
    for (unsigned char i = 0; i < 25; i++) key[i] = (unsigned char)(i + 1);
    memset(data, 0xcd, sizeof data);
    llmgwi_crypto_hmac(key, 25, data, sizeof data, out);
    digest_is(out, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
}

/* Every length of key around the block, in the key's own place too, as libsodium says. */
static void test_hmac_keys(void **state) {
    unsigned char key[200], out[32], want[crypto_auth_hmacsha256_BYTES];
    (void)state;
    for (size_t n = 0; n <= sizeof key; n++) {
        crypto_auth_hmacsha256_state sha;
        randombytes_buf(key, sizeof key);
        crypto_auth_hmacsha256_init(&sha, key, n);
        crypto_auth_hmacsha256_update(&sha, (const unsigned char *)"data", 4);
        crypto_auth_hmacsha256_final(&sha, want);
        llmgwi_crypto_hmac(key, n, "data", 4, out);
        assert_memory_equal(out, want, 32);
        llmgwi_crypto_hmac(key, n, "data", 4, key);
        assert_memory_equal(key, want, 32);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),     cmocka_unit_test(test_million),   cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_long_length), cmocka_unit_test(test_wiped),     cmocka_unit_test(test_same),
        cmocka_unit_test(test_hmac),        cmocka_unit_test(test_hmac_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
