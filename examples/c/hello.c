/* hello.c: one publisher, one subscriber.   cc hello.c $(pkg-config --cflags --libs libbus) && ./a.out
 * With an address, other programs get the message too:   ./a.out ipc:///tmp/hello.sock
 * and in a second terminal:                              libbus sub --dial ipc:///tmp/hello.sock 'room/#' */
#include <libbus/libbus.h>
#include <stdio.h>

static void
show(void *arg, const struct bus_msg *msg)
{
	(void)arg;
	printf("%s is %.*s\n", msg->topic, (int)msg->len, (const char *)msg->data);
}

int
main(int argc, char **argv)
{
	const char *address = argc > 1 ? argv[1] : NULL;
	const struct bus_msg reading = {
	    .size = sizeof reading,
	    .topic = "room/kitchen/temperature",
	    .data = "21.5",
	    .len = 4,
	    .flags = BUS_MSG_RETAIN, /* late joiners get it too */
	};
	struct bus *bus = NULL;
	int err = bus_open(NULL, NULL, &bus);

	if (err == 0)
		err = bus_subscribe(bus, "room/+/temperature", show, NULL, NULL);
	if (err == 0 && address)
		err = bus_listen(bus, address, NULL, NULL);
	if (err == 0)
		err = bus_publish_msg(bus, &reading);
	if (err == 0 && address) {
		printf("listening on %s; press Enter to end\n", address);
		getchar();
	}
	bus_close(bus, 1000); /* waits up to a second for show() */

	if (err < 0)
		fprintf(stderr, "hello: %s\n", bus_error_text());
	return err < 0;
}
