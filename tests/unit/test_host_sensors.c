/* The readers of examples/c on the files of a Raspberry Pi 4 at two moments, one second apart. */
#define _GNU_SOURCE
#include "bus_test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host_read.h"

enum { SECOND = 1000000000 };

static struct host *host;
static char root[128];

static struct {
	char topic[256];
	double value;
	bool whole;
} readings[128];
static size_t reading_count;

static void
collect(void *arg, const struct host_reading *reading)
{
	(void)arg;
	ck_assert_uint_lt(reading_count, 128);
	snprintf(readings[reading_count].topic, 256, "%s", reading->topic);
	readings[reading_count].value = reading->value;
	readings[reading_count++].whole = reading->whole;
}

/* Replaces the tree, as time would. Another test has another host. */
static void
point_root_at(const char *tree)
{
	char here[sizeof root], next[160];

	snprintf(here, sizeof here, "%s/root", bus_test_dir());
	if (strcmp(here, root) != 0) {
		host_free(host);
		host = NULL;
	}
	memcpy(root, here, sizeof root);
	snprintf(next, sizeof next, "%s.next", root);
	ck_assert_int_eq(symlink(tree, next), 0);
	ck_assert_int_eq(rename(next, root), 0);
}

static void
read_at(const char *tree, int64_t now_ns)
{
	point_root_at(tree);
	if (host == NULL)
		host = host_new(root);
	reading_count = 0;
	ck_assert(host_read(host, now_ns, collect, NULL));
}

static void
read_two_rounds(void)
{
	read_at(TEST_DATA "/pi-root", 7 * (int64_t)SECOND);
	read_at(TEST_DATA "/pi-root-1s-later", 8 * (int64_t)SECOND);
}

static const double *
find(const char *topic)
{
	for (size_t i = 0; i < reading_count; i++)
		if (strcmp(readings[i].topic, topic) == 0)
			return &readings[i].value;
	return NULL;
}

static bool
given(const char *topic)
{
	return find(topic) != NULL;
}

static double
value_of(const char *topic)
{
	ck_assert_msg(given(topic), "no reading %s", topic);
	return *find(topic);
}

#define ck_reading(topic, number) ck_assert_double_eq_tol(value_of(topic), number, 1e-9)

/* Makes a tree with this one file. */
static const char *
tree_with(const char *path, const char *content)
{
	static char tree[128];
	char file[512];
	FILE *f;

	snprintf(tree, sizeof tree, "%s/tree", bus_test_dir());
	snprintf(file, sizeof file, "%s/%s", tree, path);
	for (char *slash = file + strlen(bus_test_dir()) + 1; (slash = strchr(slash, '/'));
	     slash++) {
		*slash = '\0';
		ck_assert(mkdir(file, 0700) == 0 || errno == EEXIST);
		*slash = '/';
	}
	f = fopen(file, "w");
	ck_assert_ptr_nonnull(f);
	fputs(content, f);
	fclose(f);
	return tree;
}

START_TEST(the_first_round_has_levels_but_no_rates)
{
	read_at(TEST_DATA "/pi-root", 7 * (int64_t)SECOND);
	ck_reading("memory/total_bytes", 3884328.0 * 1024);
	ck_reading("memory/used_percent", 25);
	ck_reading("uptime_s", 21675.31);
	ck_assert(!given("cpu/0"));
	ck_assert(!given("net/eth0/rx_bytes_per_s"));
	ck_assert(!given("disk/mmcblk0/read_bytes_per_s"));
}
END_TEST

START_TEST(the_second_round_gives_exact_shares_of_each_core)
{
	read_two_rounds();
	ck_reading("cpu/0", 25);
	ck_reading("cpu/1", 0);
	ck_reading("cpu/2", 100);
	ck_reading("cpu/3", 7);
	ck_reading("cpu/all", 33);
}
END_TEST

START_TEST(rates_divide_by_the_time_that_really_passed)
{
	read_at(TEST_DATA "/pi-root", 7 * (int64_t)SECOND);
	read_at(TEST_DATA "/pi-root-1s-later", 11 * (int64_t)SECOND);
	ck_reading("net/eth0/rx_bytes_per_s", 125000 / 4.0);
	ck_reading("disk/mmcblk0/read_bytes_per_s", 2048 * 512 / 4.0);
	ck_reading("cpu/0", 25);
}
END_TEST

START_TEST(networks_and_whole_disks_have_rates_and_nothing_else_has)
{
	read_two_rounds();
	ck_reading("net/eth0/rx_bytes_per_s", 125000);
	ck_reading("net/eth0/tx_bytes_per_s", 6250);
	ck_reading("net/wlan0/rx_bytes_per_s", 0);
	ck_reading("disk/mmcblk0/read_bytes_per_s", 2048 * 512);
	ck_reading("disk/mmcblk0/write_bytes_per_s", 512 * 512);
	ck_assert(!given("net/lo/rx_bytes_per_s"));
	ck_assert(!given("disk/mmcblk0p2/read_bytes_per_s"));
	ck_assert(!given("disk/loop0/read_bytes_per_s"));
	ck_assert(!given("disk/ram0/read_bytes_per_s"));
}
END_TEST

START_TEST(sensors_read_in_the_units_that_people_use)
{
	read_at(TEST_DATA "/pi-root", 7 * (int64_t)SECOND);
	ck_reading("temperature/thermal_zone0/cpu-thermal", 48.686);
	ck_reading("temperature/hwmon0/cpu_thermal/temp1", 48.686);
	ck_reading("temperature/iio:device0/bme280/temp", 21.57);
	ck_reading("pressure/iio:device0/bme280/pressure", 1013.25);
	ck_reading("humidity/iio:device0/bme280/humidityrelative", 45.123);
	ck_reading("voltage/iio:device1/ads1015/voltage0", 3.2);
	ck_reading("temperature/w1/28-0316a2795fe4", 21.375);
	ck_reading("load/1min", 0.31);
	ck_assert_uint_eq(reading_count, 15);
}
END_TEST

START_TEST(a_wrong_checksum_gives_no_temperature)
{
	read_two_rounds();
	ck_assert(!given("temperature/w1/28-0316a2795fe4"));
}
END_TEST

START_TEST(a_shorted_wire_and_a_power_cut_give_no_temperature)
{
	const char *const w1 = "sys/bus/w1/devices/28-00/w1_slave";

	read_at(tree_with(w1, "00 00 00 00 00 00 00 00 00 : crc=00 YES\n"
			      "00 00 00 00 00 00 00 00 00 t=0\n"),
	    1);
	ck_assert_uint_eq(reading_count, 0);
	read_at(tree_with(w1, "50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n"
			      "50 05 4b 46 7f ff 0c 10 1c t=85000\n"),
	    2);
	ck_assert_uint_eq(reading_count, 0);
	/* It can be 85 °C: then the seventh byte says so. */
	read_at(tree_with(w1, "50 05 4b 46 7f ff 10 10 cc : crc=cc YES\n"
			      "50 05 4b 46 7f ff 10 10 cc t=85000\n"),
	    3);
	ck_reading("temperature/w1/28-00", 85);
}
END_TEST

START_TEST(counters_that_were_reset_give_no_rate_for_one_round)
{
	read_at(TEST_DATA "/pi-root-1s-later", 7 * (int64_t)SECOND);
	read_at(TEST_DATA "/pi-root", 8 * (int64_t)SECOND);
	ck_assert(!given("cpu/0"));
	ck_assert(!given("net/eth0/rx_bytes_per_s"));
	ck_assert(!given("disk/mmcblk0/write_bytes_per_s"));
	ck_assert(given("memory/used_percent"));
	read_at(TEST_DATA "/pi-root-1s-later", 9 * (int64_t)SECOND);
	ck_reading("net/eth0/rx_bytes_per_s", 125000);
}
END_TEST

START_TEST(a_counter_missing_for_a_round_starts_anew)
{
	read_at(TEST_DATA "/pi-root", 7 * (int64_t)SECOND);
	read_at(bus_test_dir(), 8 * (int64_t)SECOND);
	read_at(TEST_DATA "/pi-root-1s-later", 9 * (int64_t)SECOND);
	ck_assert(!given("cpu/0"));
	ck_assert(!given("net/eth0/rx_bytes_per_s"));
	read_at(TEST_DATA "/pi-root-1s-later", 10 * (int64_t)SECOND);
	ck_reading("net/eth0/rx_bytes_per_s", 0);
}
END_TEST

START_TEST(cores_that_counted_nothing_have_no_share)
{
	read_at(TEST_DATA "/pi-root", 7 * (int64_t)SECOND);
	read_at(TEST_DATA "/pi-root", 8 * (int64_t)SECOND);
	ck_assert(!given("cpu/0"));
	ck_reading("net/eth0/rx_bytes_per_s", 0);
}
END_TEST

START_TEST(an_empty_tree_gives_nothing_and_a_missing_one_is_an_error)
{
	char name[64];

	read_at(bus_test_dir(), 1);
	ck_assert_uint_eq(reading_count, 0);
	ck_assert(!host_name(bus_test_dir(), name, sizeof name));
	ck_assert_int_eq(unlink(root), 0);
	ck_assert(!host_read(host, 2, collect, NULL));
	ck_assert_int_eq(errno, ENOENT);
}
END_TEST

START_TEST(a_raw_number_without_scale_is_not_a_reading)
{
	read_at(tree_with("sys/bus/iio/devices/iio:device0/in_temp_raw", "512\n"), 1);
	ck_assert_uint_eq(reading_count, 0);
	tree_with("sys/bus/iio/devices/iio:device0/in_temp_offset", "-112\n");
	read_at(tree_with("sys/bus/iio/devices/iio:device0/in_temp_scale", "62.5\n"), 2);
	ck_reading("temperature/iio:device0/iio:device0/temp", 25);
}
END_TEST

START_TEST(text_other_than_a_number_is_not_a_reading)
{
	const char *const temp = "sys/class/thermal/thermal_zone0/temp";
	const char *const wrong[] = {"", "\n", "warm\n", "nan\n", "inf\n", "21000 or so\n"};

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		read_at(tree_with(temp, wrong[i]), (int64_t)i);
		ck_assert_uint_eq(reading_count, 0);
	}
	read_at(tree_with(temp, "-21000\n"), 9);
	ck_reading("temperature/thermal_zone0/thermal_zone0", -21);
}
END_TEST

START_TEST(names_from_drivers_become_one_level_each)
{
	char name[64];

	tree_with("sys/class/thermal/thermal_zone0/type", "$a/+ #\n");
	read_at(tree_with("sys/class/thermal/thermal_zone0/temp", "20000\n"), 1);
	ck_reading("temperature/thermal_zone0/_a____", 20);
	ck_assert(host_name(TEST_DATA "/pi-root", name, sizeof name));
	ck_assert_str_eq(name, "raspberrypi");
}
END_TEST

Suite *
bus_test_suite(void)
{
	Suite *suite = suite_create("host_sensors");

	BUS_TEST_CASE(suite, "recorded Raspberry Pi", the_first_round_has_levels_but_no_rates,
	    the_second_round_gives_exact_shares_of_each_core,
	    rates_divide_by_the_time_that_really_passed,
	    networks_and_whole_disks_have_rates_and_nothing_else_has,
	    sensors_read_in_the_units_that_people_use, a_wrong_checksum_gives_no_temperature,
	    counters_that_were_reset_give_no_rate_for_one_round,
	    a_counter_missing_for_a_round_starts_anew, cores_that_counted_nothing_have_no_share);
	BUS_TEST_CASE(suite, "odd machines", a_shorted_wire_and_a_power_cut_give_no_temperature,
	    an_empty_tree_gives_nothing_and_a_missing_one_is_an_error,
	    a_raw_number_without_scale_is_not_a_reading, text_other_than_a_number_is_not_a_reading,
	    names_from_drivers_become_one_level_each);
	return suite;
}
