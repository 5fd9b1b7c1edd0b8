/* reports/plugin.c: a plug-in that uses every kind of link, and closes all of it before it is unloaded. */
#include <stddef.h>

#include <libbus/bus.h>
#include <libbus/transport.h>

enum { PATIENCE_MS = 60000 /* a callback that bus_close() left behind would run unmapped code */ };

int plugin_run(const char *ipc_url);
const void *plugin_code(void);

static void
ignore(void *arg, const struct bus_msg *msg)
{
	(void)arg, (void)msg;
}

static int
link_over(struct bus *a, struct bus *b, const char *url)
{
	struct bus_link *listener, *dialler;
	char at[256];
	int err = bus_listen(a, url, NULL, &listener);

	if (err < 0)
		return err;
	err = bus_link_url(listener, at, sizeof at);
	if (err > 0)
		err = bus_dial(b, at, NULL, &dialler);
	if (err < 0) {
		bus_link_close(listener);
		return err;
	}
	err = bus_publish(b, "plugin", "1", 1);
	bus_link_close(dialler);
	bus_link_close(listener);
	return err;
}

/* 0, or what went wrong. */
int
plugin_run(const char *ipc_url)
{
	const char *const urls[] = {"inproc://plugin", ipc_url, "tcp://127.0.0.1:0"};
	struct bus *a, *b;
	int err = bus_open(NULL, NULL, &a);

	if (err < 0)
		return err;
	err = bus_open(NULL, NULL, &b);
	if (err == 0)
		err = bus_subscribe(a, "#", ignore, NULL, NULL);
	for (size_t i = 0; err == 0 && i < sizeof urls / sizeof *urls; i++)
		err = link_over(a, b, urls[i]);
	if (err == 0)
		err = bus_close(b, PATIENCE_MS) < 0;
	return err == 0 ? bus_close(a, PATIENCE_MS) < 0 : err;
}

/* An address inside the object that holds libbus. */
const void *
plugin_code(void)
{
	return (const void *)bus_strerror(0);
}
