/* bus/desk.c: the questions that a peer has asked. */
#include "bus/question.h"

#include "base/account.h"
#include "base/clock.h"
#include "base/mem.h"
#include "mailbox/mailbox.h"

#define DESK_MOST 1024 /* questions of one peer that may be open here */

struct desk *
bus__desk_open(struct bus_mailbox *m)
{
	struct desk *desk = bus__calloc(1, sizeof *desk);
	struct topic *nameless = bus__calloc(1, sizeof *nameless + 1);

	if (desk == NULL || nameless == NULL)
		goto free_both;
	atomic_init(&nameless->refs, 1);
	if (bus__way_init(&desk->way, m, nameless, NULL, NULL) < 0)
		goto free_both;
	desk->newest_end = &desk->oldest;
	return desk;

free_both:
	bus__free(nameless);
	bus__free(desk);
	return NULL;
}

/* With its place in the inbox. */
#define ASKED_BYTES (bus__held(sizeof(struct peer_question)) + 2 * sizeof(struct question *))

/* Inbox lock. */
static void
forget_oldest(struct inbox *inbox, struct desk *desk)
{
	struct peer_question *oldest = desk->oldest;

	desk->oldest = oldest->newer;
	if (desk->oldest == NULL)
		desk->newest_end = &desk->oldest;
	desk->count--;
	bus__question_leave(inbox, &oldest->q);
	bus__account_sub(desk->way.route.mbox->account, ASKED_BYTES);
	bus__free(oldest);
}

void
bus__desk_close(struct desk *desk)
{
	struct inbox *inbox = &desk->way.route.mbox->bus->inbox;

	pthread_mutex_lock(&inbox->lock);
	while (desk->oldest != NULL)
		forget_oldest(inbox, desk);
	pthread_mutex_unlock(&inbox->lock);
}

void
bus__desk_free(struct desk *desk)
{
	bus__way_fini(&desk->way);
	bus__free(desk);
}

int
bus__desk_accept(struct desk *desk, uint64_t theirs, uint32_t ttl_ms, uint64_t *ret_number)
{
	struct bus__account *account = desk->way.route.mbox->account;
	struct bus *bus = desk->way.route.mbox->bus;
	struct peer_question *asked;
	int64_t now = bus__now_ns();
	int err;

	if (bus__account_is_full(account, ASKED_BYTES, 0))
		return BUS_E_LIMIT;
	asked = bus__calloc(1, sizeof *asked);
	if (asked == NULL)
		return BUS_E_NOMEM;
	asked->q.desk = desk;
	asked->theirs = theirs;
	asked->passes = desk->way.route.mbox->far.fed;
	asked->expires_ns = ttl_ms != 0 ? now + ttl_ms * NS_PER_MS : INT64_MAX;
	pthread_mutex_lock(&bus->inbox.lock);
	while (desk->count == DESK_MOST || (desk->count > 0 && desk->oldest->expires_ns <= now))
		forget_oldest(&bus->inbox, desk);
	err = bus__question_enter(bus, &asked->q);
	if (err == 0) {
		*ret_number = asked->q.number;
		*desk->newest_end = asked;
		desk->newest_end = &asked->newer;
		desk->count++;
		bus__account_add(account, ASKED_BYTES);
	}
	pthread_mutex_unlock(&bus->inbox.lock);
	if (err < 0)
		bus__free(asked);
	return err;
}

void
bus__desk_note_takers(struct desk *desk, uint64_t number, uint32_t takers)
{
	struct inbox *inbox = &desk->way.route.mbox->bus->inbox;
	struct question **at;

	pthread_mutex_lock(&inbox->lock);
	at = bus__question_find(inbox, number);
	if (at != NULL && *at != NULL && (*at)->desk == desk)
		((struct peer_question *)*at)->takers =
		    (struct takers){.count = takers, .known = true};
	pthread_mutex_unlock(&inbox->lock);
}

void
bus__desk_decline(struct desk *desk, uint64_t theirs)
{
	struct inbox *inbox = &desk->way.route.mbox->bus->inbox;
	struct ring_item item = {.flags = RING_REPLY | RING_ANSWER | RING_NOBODY, .reply = theirs};

	pthread_mutex_lock(&inbox->lock);
	bus__way_put(&desk->way, &item);
	pthread_mutex_unlock(&inbox->lock);
}
