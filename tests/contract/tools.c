/* tools.c: shared by the promises. */
#include "contract.h"

void
open_all(struct rig *rig, struct inbox *inbox, const struct door *door, const char *filter)
{
	rig_open(rig, door);
	inbox_open(inbox, rig, BUS_FULL_DROP_OLDEST, 0, FILTERS(filter));
}

void
close_all(struct rig *rig, struct inbox *inbox)
{
	inbox_close(inbox);
	rig_close(rig);
}

void
expect_text(struct inbox *inbox, const char *topic, const char *text, bool kept)
{
	const struct item *item = inbox_take(inbox);

	ck_assert_str_eq(item->topic, topic);
	ck_assert_uint_eq(item->msg.len, strlen(text));
	ck_assert_mem_eq(item->data, text, item->msg.len);
	ck_assert_int_eq((item->msg.flags & BUS_MSG_KEPT) != 0, kept);
	ck_assert_uint_eq(item->msg.lost, 0);
}

uint64_t
crossed_so_far(struct rig *rig)
{
	if (!has_link(rig))
		return 0;
	ck_bus(bus_flush(rig->from, patience_ms()), 0);
	return stats_of(rig->listener).sent;
}

static void *
send_numbers(void *arg)
{
	struct sender *s = arg;
	struct bus_msg msg = {.size = sizeof msg, .topic = s->topic, .flags = s->flags};

	for (unsigned i = 0; s->count > 0 ? i < s->count : !s->stop; i++) {
		int err;

		msg.data = &i;
		msg.len = sizeof i;
		err = bus_publish_msg(s->rig->from, &msg);
		if (err != BUS_E_FULL)
			ck_bus(err, 0);
		s->refused += err == BUS_E_FULL;
		s->sent++;
		if (s->count == 0 && i % 50 == 49)
			bus_test_nap(); /* no reader may fall behind by more than its room */
	}
	return NULL;
}

void
sender_start(struct sender *s)
{
	ck_assert_int_eq(pthread_create(&s->thread, NULL, send_numbers, s), 0);
}

void
sender_more(struct sender *s, unsigned count)
{
	unsigned sent = s->sent;

	ck_eventually(s->sent - sent >= count);
}

void
sender_stop(struct sender *s)
{
	s->stop = true;
	pthread_join(s->thread, NULL);
}
