/* The black box's page, and the note that a trapping thread leaves in it. */
#define _GNU_SOURCE
#include "malla_blackbox.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct malla_blackbox_name {
	char text[MALLA_BLACKBOX_NAME_BYTES]; /* ends with NUL */
};

struct malla_blackbox {
	/* The slot of the worker whose thread trapped, plus one; 0: nobody did. */
	uint32_t trapped;
	uint32_t suspect_count;
	struct malla_blackbox_name suspects[MALLA_BLACKBOX_SUSPECTS];
	/* The account that is served now, plus one; 0: none. Each on a cache line of its own. */
	struct {
		uint64_t account;
		uint64_t pulse;	 /* goes up with each turn of the worker */
		uint64_t thread; /* whose turns they are; 0: none yet */
		uint64_t server; /* the account whose bytes are read, plus one; 0: who is served */
		uint64_t padding[4];
	} slots[MALLA_BLACKBOX_WORKERS] __attribute__((aligned(64)));
	/* By account. */
	struct malla_blackbox_name names[MALLA_BLACKBOX_NAMES];
	/* What came later, within the page that `names` ends in: the page of a supervisor that
	 * knows nothing of it has zeros there, and a child of the next version, which a supervisor
	 * of this one starts, finds the rest where it looks for it. By place in `suspects`. */
	uint64_t until_ms[MALLA_BLACKBOX_SUSPECTS];
	/* The sign of life of the agent's own thread. */
	uint64_t agent_pulse;
};

_Static_assert(offsetof(struct malla_blackbox, until_ms) % 4096 &&
		   offsetof(struct malla_blackbox, until_ms) / 4096 ==
		       (sizeof(struct malla_blackbox) - 1) / 4096,
	       "the last page is the one that names end in");

static struct malla_blackbox *watched;
static struct sigaction after[65];
static _Thread_local uint32_t own_worker;

int malla_blackbox_create(void)
{
	int descriptor = memfd_create("malla-black-box", MFD_CLOEXEC);

	if (descriptor < 0)
		return -errno;
	if (ftruncate(descriptor, sizeof(struct malla_blackbox)) < 0) {
		int error = -errno;
		close(descriptor);
		return error;
	}
	return descriptor;
}

struct malla_blackbox *malla_blackbox_map(int descriptor)
{
	void *place = mmap(NULL, sizeof(struct malla_blackbox), PROT_READ | PROT_WRITE, MAP_SHARED,
			   descriptor, 0);
	return place == MAP_FAILED ? NULL : place;
}

void malla_blackbox_unmap(struct malla_blackbox *box)
{
	munmap(box, sizeof(*box));
}

uint64_t *malla_blackbox_slot(struct malla_blackbox *box, uint32_t worker)
{
	return &box->slots[worker % MALLA_BLACKBOX_WORKERS].account;
}

uint64_t *malla_blackbox_server(struct malla_blackbox *box, uint32_t worker)
{
	return &box->slots[worker % MALLA_BLACKBOX_WORKERS].server;
}

uint64_t *malla_blackbox_pulse(struct malla_blackbox *box, uint32_t worker)
{
	return &box->slots[worker % MALLA_BLACKBOX_WORKERS].pulse;
}

uint64_t *malla_blackbox_agent_pulse(struct malla_blackbox *box)
{
	return &box->agent_pulse;
}

int malla_blackbox_thread_of(const struct malla_blackbox *box, uint32_t worker)
{
	uint64_t thread = __atomic_load_n(&box->slots[worker % MALLA_BLACKBOX_WORKERS].thread,
					  __ATOMIC_RELAXED);

	return thread <= INT_MAX ? (int)thread : 0;
}

uint32_t malla_blackbox_suspects(const struct malla_blackbox *box)
{
	return box->suspect_count < MALLA_BLACKBOX_SUSPECTS ? box->suspect_count
							    : MALLA_BLACKBOX_SUSPECTS;
}

uint32_t malla_blackbox_trapped(const struct malla_blackbox *box)
{
	return box->trapped;
}

static void set(struct malla_blackbox_name *name, const char *text, size_t count)
{
	if (count >= sizeof(name->text))
		count = sizeof(name->text) - 1;
	memset(name->text, 0, sizeof(name->text));
	memcpy(name->text, text, count);
}

void malla_blackbox_set_name(struct malla_blackbox *box, uint32_t account, const char *text,
			     size_t count)
{
	if (account < MALLA_BLACKBOX_NAMES)
		set(&box->names[account], text, count);
}

void malla_blackbox_set_suspect(struct malla_blackbox *box, uint32_t place, const char *text,
				size_t count, uint64_t until_ms)
{
	if (place >= MALLA_BLACKBOX_SUSPECTS)
		return;
	set(&box->suspects[place], text, count);
	box->until_ms[place] = until_ms;
	if (box->suspect_count <= place)
		box->suspect_count = place + 1;
}

const char *malla_blackbox_name(const struct malla_blackbox *box, uint32_t account, size_t *count)
{
	*count = 0;
	if (account >= MALLA_BLACKBOX_NAMES)
		return "";
	*count = strnlen(box->names[account].text, MALLA_BLACKBOX_NAME_BYTES);
	return box->names[account].text;
}

const char *malla_blackbox_suspect(const struct malla_blackbox *box, uint32_t place, size_t *count)
{
	*count = 0;
	if (place >= MALLA_BLACKBOX_SUSPECTS || place >= box->suspect_count)
		return "";
	*count = strnlen(box->suspects[place].text, MALLA_BLACKBOX_NAME_BYTES);
	return box->suspects[place].text;
}

uint64_t malla_blackbox_until(const struct malla_blackbox *box, uint32_t place)
{
	return place < MALLA_BLACKBOX_SUSPECTS ? box->until_ms[place] : 0;
}

static void trapped(int signal)
{
	if (watched && own_worker)
		__atomic_store_n(&watched->trapped, own_worker, __ATOMIC_RELAXED);
	/* Returning runs the instruction again, this time under what stands there now. */
	sigaction(signal, &after[signal], NULL);
}

void malla_blackbox_watch(struct malla_blackbox *box)
{
	static const int signals[] = {SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGABRT};
	struct sigaction action = {.sa_handler = trapped, .sa_flags = SA_ONSTACK};

	watched = box;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		sigaction(signals[i], &action, &after[signals[i]]);
		/* Swift's own backtrace takes seconds in which nobody is served. */
		if (!getenv("SWIFT_BACKTRACE"))
			after[signals[i]] = (struct sigaction){.sa_handler = SIG_DFL};
	}
}

void malla_blackbox_thread(uint32_t worker)
{
	own_worker = worker + 1;
	if (watched)
		__atomic_store_n(&watched->slots[worker % MALLA_BLACKBOX_WORKERS].thread,
				 (uint64_t)gettid(), __ATOMIC_RELAXED);
}
