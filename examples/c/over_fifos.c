/* over_fifos.c: own_transport.c in use.   cc over_fifos.c own_transport.c $(pkg-config --cflags --libs libbus)
 * In one terminal:   ./a.out listen fifo:///tmp/bus     in another:   ./a.out dial fifo:///tmp/bus */
#include <libbus/libbus.h>
#include <stdio.h>
#include <string.h>

extern const struct bus_transport own_transport;

static int
use(struct bus *bus, const char *what, const char *address)
{
	const struct bus_msg reading = {
	    .size = sizeof reading,
	    .topic = "room/kitchen/temperature",
	    .data = "21.5",
	    .len = 4,
	    .flags = BUS_MSG_RETAIN, /* late joiners get it too */
	};
	const struct bus_msg *msg;
	struct bus_mailbox *mbox = NULL;
	int err;

	if (strcmp(what, "listen") == 0) {
		err = bus_publish_msg(bus, &reading);
		if (err == 0)
			err = bus_listen(bus, address, NULL, NULL);
		if (err == 0)
			printf("listening on %s; press Enter to end\n", address);
		return err == 0 ? (getchar(), 0) : err;
	}
	err = bus_mailbox_open(bus, NULL, &mbox);
	if (err == 0)
		err = bus_mailbox_subscribe(mbox, "room/#", NULL, NULL, NULL);
	if (err == 0)
		err = bus_dial(bus, address, NULL, NULL);
	if (err == 0)
		err = bus_recv(mbox, -1, &msg);
	if (err == 1)
		printf("%s is %.*s\n", msg->topic, (int)msg->len, (const char *)msg->data);
	bus_mailbox_close(mbox);
	return err;
}

int
main(int argc, char **argv)
{
	struct bus *bus = NULL;
	int err;

	if (argc != 3) {
		fprintf(stderr, "usage: %s listen|dial fifo:///path\n", argv[0]);
		return 2;
	}
	err = bus_transport_register(&own_transport);
	if (err == 0)
		err = bus_open(NULL, NULL, &bus);
	if (err == 0)
		err = use(bus, argv[1], argv[2]);
	if (err < 0)
		fprintf(stderr, "over_fifos: %s\n", bus_error_text());
	bus_close(bus, 1000);
	return err < 0;
}
