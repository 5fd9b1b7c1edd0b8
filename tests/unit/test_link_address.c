#define _GNU_SOURCE
/* Where a bus may listen and dial. */
#include "link_test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "login_test.h"

static const char *
path_of(const char *url)
{
	return url + strlen("ipc://");
}

/* A users file without a user: no peer may connect. */
static const char *
no_users(void)
{
	return file_of_test("users", "");
}

START_TEST(an_address_that_is_none_is_refused_by_name)
{
	static const struct {
		const char *url;
		int err;
	} cases[] = {{"http://127.0.0.1:80", BUS_E_SCHEME}, {"nonsense", BUS_E_SCHEME},
	    {"tcp://127.0.0.1", BUS_E_ADDRESS}, {"ipc://relative", BUS_E_ADDRESS},
	    {"tcp://0.0.0.0:0", BUS_E_NOT_LOOPBACK}, {"tcp://*:7000", BUS_E_NOT_LOOPBACK},
	    {"tcp://192.0.2.1:7000", BUS_E_NOT_LOOPBACK}, {"tcp://[::]:7000", BUS_E_NOT_LOOPBACK},
	    {"tcp://[2001:db8::1]:7000", BUS_E_NOT_LOOPBACK},
	    {"tcp://[::ffff:192.0.2.1]:7000", BUS_E_NOT_LOOPBACK},
	    {"tcp://no-such-host.invalid:7000", BUS_E_ADDRESS}};
	struct bus *bus = open_bus();

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		ck_bus(bus_listen(bus, cases[i].url, NULL, NULL), cases[i].err);
		ck_bus(bus_dial(bus, cases[i].url, NULL, NULL), cases[i].err);
	}
	ck_bus(bus_listen(bus, NULL, NULL, NULL), BUS_E_INVAL);
	ck_bus(bus_listen(NULL, "inproc://a", NULL, NULL), BUS_E_INVAL);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

static int
listen_with(struct bus *bus, const char *url, const struct bus_link_config *cfg)
{
	struct bus_link *link = NULL;
	int err = bus_listen(bus, url, cfg, &link);

	bus_link_close(link);
	return err;
}

START_TEST(clear_text_leaves_this_machine_only_where_that_is_asked_for)
{
	struct bus_link_config lan = {.size = sizeof lan, .allow_lan = 1, .users_file = no_users()};
	struct bus_link_config out = {.size = sizeof out, .allow_lan = 1};
	struct bus_link_config any = {.size = sizeof any, .allow_insecure_remote = 1};
	struct bus *bus = open_bus();

	ck_bus(listen_with(bus, "tcp://0.0.0.0:0", &lan), 0);
	ck_bus(listen_with(bus, "tcp://*:0", &lan), 0);
	ck_bus(listen_with(bus, "tcp://[::]:0", &lan), 0);
	ck_bus(listen_with(bus, "tcp://0.0.0.0:0", &any), 0);
	ck_bus(listen_with(bus, "tcp://8.8.8.8:0", &lan), BUS_E_NOT_LOOPBACK);
	ck_bus(bus_dial(bus, "tcp://8.8.8.8:1", &out, NULL), BUS_E_NOT_LOOPBACK);
	ck_bus(bus_dial(bus, "tcp://[2001:db8::1]:1", &out, NULL), BUS_E_NOT_LOOPBACK);
	ck_bus(bus_dial(bus, "tcp://10.255.255.254:1", &out, NULL), 0);
	ck_bus(bus_dial(bus, "tcp://8.8.8.8:1", &any, NULL), 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(a_lan_listener_needs_users)
{
	struct bus_link_config lan = {.size = sizeof lan, .allow_lan = 1};
	struct bus *bus = open_bus();

	ck_bus(listen_with(bus, "tcp://0.0.0.0:0", &lan), BUS_E_INVAL);
	ck_assert_ptr_nonnull(strstr(bus_error_text(), "libbus user add"));
	ck_bus(bus_dial(bus, "tcp://127.0.0.1:1", &lan, NULL), 0);
	lan.allow_insecure_remote = 1;
	ck_bus(listen_with(bus, "tcp://0.0.0.0:0", &lan), 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(a_refused_address_is_explained_with_an_alternative)
{
	static const struct {
		const char *url, *what, *way;
		bool lan;
	} cases[] = {{"tcp://8.8.8.8:1", "8.8.8.8 is a public address", "tls://", false},
	    {"tcp://192.168.1.2:1", "192.168.1.2 is an address of this network", "allow_lan",
		false},
	    {"tcp://[fe80::1]:1", "fe80::1 is an address of this network", "allow_lan", false},
	    {"tcp://0.0.0.0:1", "0.0.0.0 is all addresses", "allow_lan", false},
	    {"tcp://8.8.8.8:1", "8.8.8.8 is a public address", "allow_insecure_remote", true}};
	struct bus *bus = open_bus();

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct bus_link_config cfg = {
		    .size = sizeof cfg, .allow_lan = cases[i].lan, .users_file = NULL};

		ck_bus(bus_dial(bus, cases[i].url, &cfg, NULL), BUS_E_NOT_LOOPBACK);
		ck_assert_msg(strncmp(bus_error_text(), cases[i].url, strlen(cases[i].url)) == 0 &&
				  strstr(bus_error_text(), cases[i].what) != NULL &&
				  strstr(bus_error_text(), cases[i].way) != NULL,
		    "%s", bus_error_text());
	}
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* A machine may start before the network that knows the name. */
START_TEST(an_unknown_name_beyond_this_machine_is_tried_again)
{
	struct bus_link_config any = {.size = sizeof any, .allow_insecure_remote = 1};
	struct bus *bus = open_bus();
	struct bus_link *link;

	ck_bus(bus_listen(bus, "tcp://no-such-host.invalid:7000", &any, NULL), BUS_E_ADDRESS);
	ck_bus(bus_dial(bus, "tcp://no-such-host.invalid:7000", &any, &link), 0);
	ck_eventually(stats_of(link).last_error == BUS_E_ADDRESS);
	ck_assert(!is_up(link));
	bus_link_close(link);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(a_name_that_may_be_elsewhere_is_looked_up_at_each_dial)
{
	struct bus_link_config any = {.size = sizeof any, .allow_insecure_remote = 1};
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct bus_link *first;
	char url[64];

	/* The name of 127.0.0.1 may also be that of ::1, without a listener. */
	ck_bus(bus_listen(p.a, "tcp://127.0.0.1:0", NULL, &first), 0);
	ck_assert_int_gt(bus_link_url(first, p.url, sizeof p.url), 0);
	snprintf(url, sizeof url, "tcp://localhost%s", strrchr(p.url, ':'));
	ck_bus(bus_dial(p.b, url, &any, &p.lb), 0);
	ck_eventually(is_up(p.lb));
	bus_link_close(first);
	ck_eventually(!is_up(p.lb));
	ck_bus(bus_listen(p.a, p.url, NULL, &p.la), 0);
	ck_eventually(is_up(p.lb));
	pair_close(&p);
}
END_TEST

START_TEST(a_config_out_of_range_is_refused)
{
	struct bus_link_config cfg = {.size = sizeof cfg, .heartbeat_ms = 99};
	struct bus_link_config huge = {.size = sizeof huge, .bytes = SIZE_MAX};
	struct bus *bus = open_bus();

	ck_bus(bus_dial(bus, "inproc://a", &cfg, NULL), BUS_E_INVAL);
	ck_bus(bus_dial(bus, "inproc://a", &huge, NULL), BUS_E_INVAL);
	cfg = (struct bus_link_config){.size = 0};
	ck_bus(bus_dial(bus, "inproc://a", &cfg, NULL), BUS_E_INVAL);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* Over each transport: two buses of one process cannot listen at one address. */
START_TEST(a_taken_address_is_refused_and_free_again_after_its_end)
{
	struct bus *first = open_bus(), *second = open_bus();
	struct bus_link *link;
	char url[256];

	ck_bus(bus_listen(first, listen_url(_i), NULL, &link), 0);
	ck_assert_int_gt(bus_link_url(link, url, sizeof url), 0);
	ck_bus(bus_link_url(link, url, strlen(url)), BUS_E_LIMIT);
	ck_bus(bus_listen(second, url, NULL, NULL), BUS_E_ADDRESS_TAKEN);
	bus_link_close(link);
	ck_bus(bus_listen(second, url, NULL, &link), 0);
	bus_link_close(link);
	ck_bus(bus_close(first, 0), 0);
	ck_bus(bus_close(second, 0), 0);
}
END_TEST

START_TEST(a_foreign_program_on_the_port_is_reported)
{
	struct sockaddr_in addr = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof addr;
	struct bus *bus = open_bus();
	char url[64];
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, len), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	snprintf(url, sizeof url, "tcp://localhost:%u", ntohs(addr.sin_port));
	ck_bus(bus_listen(bus, url, NULL, NULL), BUS_E_ADDRESS_TAKEN);
	close(fd);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(localhost_gets_a_port_and_keeps_its_name)
{
	struct pair p = {.a = open_bus(), .b = open_bus()};

	ck_bus(bus_listen(p.a, "tcp://localhost:0", NULL, &p.la), 0);
	ck_assert_int_gt(bus_link_url(p.la, p.url, sizeof p.url), 0);
	ck_assert_int_eq(strncmp(p.url, "tcp://localhost:", 16), 0);
	ck_assert_int_gt(atoi(p.url + 16), 0);
	ck_bus(bus_dial(p.b, p.url, NULL, &p.lb), 0);
	ck_eventually(is_up(p.lb));
	pair_close(&p);
}
END_TEST

START_TEST(a_file_in_the_way_stays_as_it_is)
{
	const char *url = listen_url(1);
	struct bus *bus = open_bus();
	char text[8] = "";
	FILE *file = fopen(path_of(url), "w");

	fputs("dear", file);
	fclose(file);
	ck_bus(bus_listen(bus, url, NULL, NULL), BUS_E_NOT_A_SOCKET);
	file = fopen(path_of(url), "r");
	ck_assert_ptr_nonnull(fgets(text, sizeof text, file));
	fclose(file);
	ck_assert_str_eq(text, "dear");
	remove(path_of(url));
	ck_assert_int_eq(symlink("/nowhere", path_of(url)), 0);
	ck_bus(bus_listen(bus, url, NULL, NULL), BUS_E_NOT_A_SOCKET);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(a_socket_of_another_program_is_left_to_it)
{
	const char *url = listen_url(1);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), other = socket(AF_UNIX, SOCK_STREAM, 0);
	struct bus *bus = open_bus();

	memcpy(addr.sun_path, path_of(url), strlen(path_of(url)) + 1);
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&addr, sizeof addr), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	for (int i = 0; i < 2;
	     i++) /* the first refusal leaves nothing that could mislead the second */
		ck_bus(bus_listen(bus, url, NULL, NULL), BUS_E_NOT_A_SOCKET);
	ck_assert_int_eq(connect(other, (const struct sockaddr *)&addr, sizeof addr), 0);
	close(other);
	close(fd);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(only_our_user_gets_at_the_socket_and_nothing_stays_behind)
{
	const char *url = listen_url(1);
	struct bus *bus = open_bus();
	struct bus_link *link;
	struct stat st;
	char lock[256];

	snprintf(lock, sizeof lock, "%s.lock", path_of(url));
	ck_bus(bus_listen(bus, url, NULL, &link), 0);
	ck_assert_int_eq(lstat(path_of(url), &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(lstat(lock, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	bus_link_close(link);
	ck_assert_int_eq(lstat(path_of(url), &st), -1);
	ck_assert_int_eq(lstat(lock, &st), -1);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(a_directory_that_is_missing_or_open_to_all_is_refused)
{
	struct bus *bus = open_bus();
	char dir[128], url[256];

	snprintf(dir, sizeof dir, "%s/open", bus_test_dir());
	snprintf(url, sizeof url, "ipc://%s/socket", dir);
	ck_bus(bus_listen(bus, url, NULL, NULL), BUS_E_SYS);
	ck_assert_int_eq(mkdir(dir, 0700), 0);
	ck_assert_int_eq(chmod(dir, 0777), 0);
	ck_bus(bus_listen(bus, url, NULL, NULL), BUS_E_DENIED);
	ck_assert_int_eq(chmod(dir, 01777), 0);
	ck_bus(bus_listen(bus, url, NULL, NULL), 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

/* what: a descriptor on which to report that it listens, a space, a URL. */
static void
be_a_listener(const char *what)
{
	struct bus *bus;
	char *url;
	int ready = (int)strtol(what, &url, 10);

	if (bus_open(NULL, NULL, &bus) == 0 && bus_listen(bus, url + 1, NULL, NULL) == 0 &&
	    write(ready, "r", 1) == 1)
		for (;;)
			pause();
	_exit(1);
}

static pid_t
start_listener(const char *url)
{
	char what[300], byte;
	int ready[2];
	pid_t pid;

	ck_assert_int_eq(pipe(ready), 0);
	snprintf(what, sizeof what, "%d %s", ready[1], url);
	pid = bus_test_child(be_a_listener, what);
	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

START_TEST(a_path_belongs_to_its_process_until_that_dies)
{
	const char *url = listen_url(1);
	pid_t pid = start_listener(url);
	struct bus *bus = open_bus();
	struct bus_link *dial;
	struct stat st;

	ck_bus(bus_listen(bus, url, NULL, NULL), BUS_E_ADDRESS_TAKEN);
	ck_bus(bus_dial(bus, url, NULL, &dial), 0);
	ck_eventually(is_up(dial)); /* the refusal did not disturb the owner */
	bus_link_close(dial);
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_int_eq(lstat(path_of(url), &st), 0); /* the dead one's socket */
	ck_bus(bus_listen(bus, url, NULL, NULL), 0);
	ck_bus(bus_close(bus, 0), 0);
}
END_TEST

START_TEST(a_listener_without_descriptors_waits_and_resumes)
{
	struct rlimit limit, none;
	struct pair p = {.a = open_bus(), .b = open_bus()};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fds[16], count = 0, client;

	ck_bus(bus_listen(p.a, listen_url(1), NULL, &p.la), 0);
	memcpy(addr.sun_path, path_of(listen_url(1)), strlen(path_of(listen_url(1))));
	client = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_ge(client, 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)client + 1;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	while (count < 16 && (fds[count] = dup(client)) >= 0) /* fill the gaps below */
		count++;
	ck_assert_int_eq(connect(client, (struct sockaddr *)&addr, sizeof addr), 0);
	ck_eventually(stats_of(p.la).last_error == BUS_E_LIMIT);
	ck_assert(is_up(p.la));
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while (count > 0)
		close(fds[--count]);
	close(client);
	ck_bus(bus_dial(p.b, listen_url(1), NULL, &p.lb), 0);
	ck_eventually(is_up(p.lb));
	pair_close(&p);
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("link address");
	TCase *tcase = bus_test_case("taken");

	BUS_TEST_CASE(suite, "address", an_address_that_is_none_is_refused_by_name,
	    clear_text_leaves_this_machine_only_where_that_is_asked_for, a_lan_listener_needs_users,
	    a_refused_address_is_explained_with_an_alternative,
	    an_unknown_name_beyond_this_machine_is_tried_again,
	    a_name_that_may_be_elsewhere_is_looked_up_at_each_dial,
	    a_config_out_of_range_is_refused, a_foreign_program_on_the_port_is_reported,
	    localhost_gets_a_port_and_keeps_its_name);
	BUS_TEST_CASE(suite, "path", a_file_in_the_way_stays_as_it_is,
	    a_socket_of_another_program_is_left_to_it,
	    only_our_user_gets_at_the_socket_and_nothing_stays_behind,
	    a_directory_that_is_missing_or_open_to_all_is_refused,
	    a_path_belongs_to_its_process_until_that_dies,
	    a_listener_without_descriptors_waits_and_resumes);
	tcase_add_loop_test(
	    tcase, a_taken_address_is_refused_and_free_again_after_its_end, 0, LINK_TEST_SCHEMES);
	suite_add_tcase(suite, tcase);
	return suite;
}
