/* bus/kept_msg.c: a message that outlives its mailbox. */
#include <stddef.h>
#include <string.h>

#include <libbus/bus.h>

#include "base/error_text.h"
#include "base/mem.h"
#include "base/sized.h"

/* No bus carries more. */
#define MOST_BYTES (256u << 20)

struct kept_msg {
	struct bus_msg msg;                 /* points into bytes */
	_Alignas(max_align_t) char bytes[]; /* payload, headers, topic */
};

int
bus_msg_keep(const struct bus_msg *msg, const struct bus_msg **ret_msg)
{
	struct kept_msg *kept;
	struct bus_msg room;
	size_t topic;
	int err = BUS__SIZED_IN(SIZED_MSG, msg, &room);

	if (err < 0)
		return err;
	if (msg == NULL || ret_msg == NULL || msg->topic == NULL)
		return bus__answer(BUS_E_INVAL);
	if (msg->len > MOST_BYTES || msg->headers_len > MOST_BYTES - msg->len ||
	    (msg->data == NULL && msg->len > 0) || (msg->headers == NULL && msg->headers_len > 0))
		return bus__answer(BUS_E_INVAL);
	topic = strlen(msg->topic) + 1;
	kept = bus__malloc(sizeof *kept + msg->len + msg->headers_len + topic);
	if (kept == NULL)
		return bus__fail_about(BUS_E_NOMEM, msg->topic);
	kept->msg = *msg;
	kept->msg.data = kept->bytes;
	kept->msg.topic = memcpy(kept->bytes + msg->len + msg->headers_len, msg->topic, topic);
	if (msg->len > 0)
		memcpy(kept->bytes, msg->data, msg->len);
	if (msg->headers_len > 0)
		kept->msg.headers = memcpy(kept->bytes + msg->len, msg->headers, msg->headers_len);
	*ret_msg = &kept->msg;
	return 0;
}

void
bus_msg_free(const struct bus_msg *kept)
{
	bus__free((void *)(uintptr_t)kept); /* struct kept_msg begins with it */
}
