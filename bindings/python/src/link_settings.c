/* link_settings.c: the arguments of Bus.listen() and Bus.dial(), checked and turned into C's. */
#include "link_settings.h"

enum path { PATH_CA, PATH_CERT, PATH_KEY, PATH_PSK, PATH_USERS, PATH_ACL };

/* Arguments of both calls, before and after those of one call alone. */
#define FIRST_NAMES "url", "heartbeat", "max_peers", "max_bytes", "peer_bytes"
#define LAST_NAMES  "ca", "cert", "key", "psk", "allow_lan", "allow_insecure_remote", "relays", NULL

struct numbers {
	PyObject *heartbeat;
	Py_ssize_t max_peers, bytes, peer_bytes;
	int allow_lan, allow_insecure_remote, relays;
};

static int
parse(PyObject *args, PyObject *kwargs, bool dials, struct link_settings *to, struct numbers *n)
{
	static char *listen_names[] = {FIRST_NAMES, "users", "acl", LAST_NAMES};
	static char *dial_names[] = {FIRST_NAMES, "user", "password", LAST_NAMES};
	PyObject **paths = to->paths;

	if (dials)
		return PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OnnnzzO&O&O&O&ppp:dial",
		    dial_names, &to->url, &n->heartbeat, &n->max_peers, &n->bytes, &n->peer_bytes,
		    &to->config.user, &to->config.password, path_or_none, &paths[PATH_CA],
		    path_or_none, &paths[PATH_CERT], path_or_none, &paths[PATH_KEY], path_or_none,
		    &paths[PATH_PSK], &n->allow_lan, &n->allow_insecure_remote, &n->relays);
	return PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OnnnO&O&O&O&O&O&ppp:listen",
	    listen_names, &to->url, &n->heartbeat, &n->max_peers, &n->bytes, &n->peer_bytes,
	    path_or_none, &paths[PATH_USERS], path_or_none, &paths[PATH_ACL], path_or_none,
	    &paths[PATH_CA], path_or_none, &paths[PATH_CERT], path_or_none, &paths[PATH_KEY],
	    path_or_none, &paths[PATH_PSK], &n->allow_lan, &n->allow_insecure_remote, &n->relays);
}

static const char *
path(const struct link_settings *settings, enum path which)
{
	PyObject *bytes = settings->paths[which];

	return bytes != NULL ? PyBytes_AS_STRING(bytes) : NULL;
}

int
link_settings_read(
    struct core *core, PyObject *args, PyObject *kwargs, bool dials, struct link_settings *settings)
{
	struct numbers n = {.heartbeat = Py_None};
	struct bus_link_config *cfg = &settings->config;
	int heartbeat_ms;

	if (!parse(args, kwargs, dials, settings, &n))
		return -1;
	settings->text = text_of(core, settings->url, ABOUT_ADDRESS);
	if (settings->text == NULL || timeout_ms(n.heartbeat, &heartbeat_ms) < 0 ||
	    size_between(n.max_peers, UINT32_MAX, "max_peers") < 0 ||
	    size_between(n.bytes, SIZE_MAX, "max_bytes") < 0 ||
	    size_between(n.peer_bytes, SIZE_MAX, "peer_bytes") < 0)
		return -1;
	cfg->size = sizeof *cfg;
	/* None is the default, 0 in C. A given 0 becomes 1 ms, which C refuses with its own text. */
	cfg->heartbeat_ms = n.heartbeat == Py_None ? 0
			    : heartbeat_ms == 0    ? 1
						   : (uint32_t)heartbeat_ms;
	cfg->max_peers = (uint32_t)n.max_peers;
	cfg->bytes = (size_t)n.bytes;
	cfg->peer_bytes = (size_t)n.peer_bytes;
	cfg->users_file = path(settings, PATH_USERS);
	cfg->acl_file = path(settings, PATH_ACL);
	cfg->ca_file = path(settings, PATH_CA);
	cfg->cert_file = path(settings, PATH_CERT);
	cfg->key_file = path(settings, PATH_KEY);
	cfg->psk_file = path(settings, PATH_PSK);
	cfg->allow_lan = (uint32_t)n.allow_lan;
	cfg->allow_insecure_remote = (uint32_t)n.allow_insecure_remote;
	cfg->relays = (uint32_t)n.relays;
	return 0;
}

void
link_settings_end(struct link_settings *settings)
{
	for (size_t i = 0; i < sizeof settings->paths / sizeof settings->paths[0]; i++)
		Py_XDECREF(settings->paths[i]);
}
