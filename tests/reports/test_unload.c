/* A host program unloads a plug-in that used links and has closed them. NNG's threads go on, so the object with libbus
 * must stay mapped. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <dlfcn.h>
#include <stdio.h>

enum { ROUNDS = 50 };

static void *
symbol(void *plugin, const char *name)
{
	void *found = dlsym(plugin, name);

	ck_assert_msg(found != NULL, "%s", dlerror());
	return found;
}

static void
load_use_and_unload(const char *path)
{
	const void *code = NULL;
	char url[256];

	snprintf(url, sizeof url, "ipc://%s/socket", bus_test_dir());
	for (int round = 0; round < ROUNDS; round++) {
		void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		int (*run)(const char *ipc_url);
		const void *(*code_of)(void);
		Dl_info info;

		ck_assert_msg(plugin != NULL, "%s", dlerror());
		*(void **)&run = symbol(plugin, "plugin_run");
		*(void **)&code_of = symbol(plugin, "plugin_code");
		ck_assert_int_eq(run(url), 0);
		code = code_of();
		ck_assert_int_eq(dlclose(plugin), 0);
		ck_assert_msg(dladdr(code, &info) != 0, "round %d: libbus was unmapped", round);
	}
}

START_TEST(a_plugin_with_links_can_be_unloaded)
{
	load_use_and_unload(PLUGINS "/report_plugin_shared.so");
}
END_TEST

START_TEST(a_plugin_that_holds_the_whole_library_can_be_unloaded)
{
	load_use_and_unload(PLUGINS "/report_plugin_static.so");
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("report: unload");

	BUS_TEST_CASE(suite, "unload", a_plugin_with_links_can_be_unloaded,
	    a_plugin_that_holds_the_whole_library_can_be_unloaded);
	return suite;
}
