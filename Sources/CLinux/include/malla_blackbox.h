/* The black box: a shared page in which a child says whom it serves at each moment, so that the
 * supervisor can read after a crash who was served when it came; and a sign of life of each thread,
 * so that one that hangs is found. One child, one page.
 *
 * The child's workers write their slots, one store an event; its agent writes the names; the
 * supervisor reads both once the child is dead, and writes `suspects` before the child starts. */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum {
	MALLA_BLACKBOX_WORKERS = 128,
	MALLA_BLACKBOX_NAMES = 4096,
	MALLA_BLACKBOX_NAME_BYTES = 128,
	MALLA_BLACKBOX_SUSPECTS = 64,
};

struct malla_blackbox;

/* A page of zeros; a descriptor, or -errno. */
int malla_blackbox_create(void);
/* NULL: it cannot be mapped. It stays mapped for the life of the process, or until unmapped. */
struct malla_blackbox *malla_blackbox_map(int descriptor);
void malla_blackbox_unmap(struct malla_blackbox *box);

/* The name of an account, cut to what fits. */
void malla_blackbox_set_name(struct malla_blackbox *box, uint32_t account, const char *text,
			     size_t count);
/* until_ms: on CLOCK_MONOTONIC; a child that starts after it serves the account again. */
void malla_blackbox_set_suspect(struct malla_blackbox *box, uint32_t place, const char *text,
				size_t count, uint64_t until_ms);
/* Where the text is; its length goes to *count, whatever the child wrote. */
const char *malla_blackbox_name(const struct malla_blackbox *box, uint32_t account, size_t *count);
const char *malla_blackbox_suspect(const struct malla_blackbox *box, uint32_t place, size_t *count);
/* 0: the supervisor has not said. */
uint64_t malla_blackbox_until(const struct malla_blackbox *box, uint32_t place);

/* From now on a trap of any thread that called `malla_blackbox_thread` is noted, and then ends the
 * process at once; with SWIFT_BACKTRACE in the environment, after Swift's backtrace. Such a thread
 * is to bump its worker's pulse every second. */
void malla_blackbox_watch(struct malla_blackbox *box);
void malla_blackbox_thread(uint32_t worker);

uint64_t *malla_blackbox_slot(struct malla_blackbox *box, uint32_t worker);
uint64_t *malla_blackbox_server(struct malla_blackbox *box, uint32_t worker);
uint64_t *malla_blackbox_pulse(struct malla_blackbox *box, uint32_t worker);
uint64_t *malla_blackbox_agent_pulse(struct malla_blackbox *box);
/* The worker's thread, whatever the child wrote; 0: none. */
int malla_blackbox_thread_of(const struct malla_blackbox *box, uint32_t worker);
uint32_t malla_blackbox_suspects(const struct malla_blackbox *box);
/* The worker whose thread trapped, plus one; 0: none did. */
uint32_t malla_blackbox_trapped(const struct malla_blackbox *box);

/* A word of one writer's. */
static inline void malla_blackbox_bump(uint64_t *pulse)
{
	__atomic_store_n(pulse, *pulse + 1, __ATOMIC_RELAXED);
}

static inline uint64_t malla_blackbox_count(const uint64_t *pulse)
{
	return __atomic_load_n(pulse, __ATOMIC_RELAXED);
}

static inline void malla_blackbox_serve(uint64_t *slot, uint64_t account)
{
	__atomic_store_n(slot, account, __ATOMIC_RELAXED);
}
