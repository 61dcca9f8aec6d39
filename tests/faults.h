/* faults.h - calls of LMDB that fail where a test says so. After llmgw.h, which was told LLMGWI_STORE_FAULTS. Any thread
   may set one and meet it. */
#ifndef FAULTS_H
#define FAULTS_H

static const char *fault_call; /* NULL: any */
static int fault_code, fault_at, fault_seen;
static bool fault_for_ever;

static int llmgwi_store_fault(const char *call) {
    int at = __atomic_load_n(&fault_at, __ATOMIC_ACQUIRE);
    const char *only = __atomic_load_n(&fault_call, __ATOMIC_RELAXED);
    if (!at || (only && strcmp(call, only))) return 0;
    int seen = __atomic_add_fetch(&fault_seen, 1, __ATOMIC_RELAXED);
    bool later = seen > at && __atomic_load_n(&fault_for_ever, __ATOMIC_RELAXED);
    return seen == at || later ? __atomic_load_n(&fault_code, __ATOMIC_RELAXED) : 0;
}

/* The at-th of these calls fails, and all after it too, if for_ever; at 0: none. */
__attribute__((unused)) static void set_fault(const char *call, int code, int at, bool for_ever) {
    __atomic_store_n(&fault_at, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&fault_call, call, __ATOMIC_RELAXED);
    __atomic_store_n(&fault_code, code, __ATOMIC_RELAXED);
    __atomic_store_n(&fault_for_ever, for_ever, __ATOMIC_RELAXED);
    __atomic_store_n(&fault_seen, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&fault_at, at, __ATOMIC_RELEASE);
}

__attribute__((unused)) static void no_fault(void) { set_fault(NULL, 0, 0, false); }

#endif
