#include "host_source.h"

#include <string.h>

/* The driver's label for a channel, or the best substitute. */
static void
read_label(int dir, const char *path, const char *otherwise, char *ret_label, size_t cap)
{
	if (!read_line(dir, path, ret_label, cap))
		snprintf(ret_label, cap, "%s", otherwise);
}

/* A device while its channels are read. */
struct device {
	struct host *host;
	const char *folder; /* thermal_zone0, hwmon1, iio:device0 */
	char name[LINE_CAP];
};

/* Writes "folder/file". */
static const char *
within(char (*buf)[TOPIC_CAP], const char *folder, const char *file)
{
	snprintf(*buf, sizeof *buf, "%.250s/%.250s", folder, file);
	return *buf;
}

/* "in_temp_input" with "in_" and "_input" gives "temp". */
static bool
cut(const char *file, const char *prefix, const char *suffix, char *ret_middle, size_t cap)
{
	size_t len = strlen(file), before = strlen(prefix), after = strlen(suffix);

	if (len <= before + after || strncmp(file, prefix, before) != 0 ||
	    strcmp(file + len - after, suffix) != 0)
		return false;
	snprintf(ret_middle, cap, "%.*s", (int)(len - before - after), file + before);
	return true;
}

static void
read_thermal_zone(void *arg, int folder, const char *zone)
{
	char path[TOPIC_CAP], type[LINE_CAP];
	struct host *host = arg;
	double milli;

	if (!read_number(folder, within(&path, zone, "temp"), &milli))
		return;
	read_label(folder, within(&path, zone, "type"), zone, type, sizeof type);
	give(host, LEVELS("temperature", zone, type), milli / 1000);
}

void
read_thermal(struct host *host)
{
	each_entry(host->root, "sys/class/thermal", "thermal_zone", read_thermal_zone, host);
}

static void
read_hwmon_channel(void *arg, int folder, const char *file)
{
	char channel[LINE_CAP / 2], path[LINE_CAP], label[LINE_CAP];
	const struct device *device = arg;
	double milli, fault;

	if (!cut(file, "", "_input", channel, sizeof channel))
		return;
	snprintf(path, sizeof path, "%s_fault", channel);
	if (read_number(folder, path, &fault) && fault != 0)
		return;
	if (!read_number(folder, file, &milli))
		return;
	snprintf(path, sizeof path, "%s_label", channel);
	read_label(folder, path, channel, label, sizeof label);
	give(
	    device->host, LEVELS("temperature", device->folder, device->name, label), milli / 1000);
}

static void
read_hwmon_device(void *arg, int folder, const char *entry)
{
	struct device device = {.host = arg, .folder = entry};
	char path[TOPIC_CAP];

	read_label(folder, within(&path, entry, "name"), entry, device.name, sizeof device.name);
	each_entry(folder, entry, "temp", read_hwmon_channel, &device);
}

void
read_hwmon(struct host *host)
{
	each_entry(host->root, "sys/class/hwmon", "hwmon", read_hwmon_device, host);
}

/* --- IIO: _input is in the unit of the kernel's ABI, (_raw + _offset) * _scale as well --------------- */

static const struct quantity {
	const char *iio, *topic;
	double times, over; /* from their unit to ours */
} quantities[] = {
    {"temp", "temperature", 1, 1000},          /* thousandths to °C */
    {"pressure", "pressure", 10, 1},           /* kPa to hPa */
    {"humidityrelative", "humidity", 1, 1000}, /* thousandths to % */
    {"voltage", "voltage", 1, 1000},           /* mV to V */
    {"current", "current", 1, 1000},           /* mA to A */
};

/* A factor stands beside the channel, or once for all channels of its kind. */
static bool
read_factor(int folder, const char *channel, const char *kind, const char *factor, double *ret)
{
	char path[2 * LINE_CAP];

	snprintf(path, sizeof path, "in_%s_%s", channel, factor);
	if (!file_exists(folder, path))
		snprintf(path, sizeof path, "in_%s_%s", kind, factor);
	if (!file_exists(folder, path) && strcmp(factor, "offset") == 0) {
		*ret = 0;
		return true;
	}
	/* Without a scale the raw number has no unit. */
	return read_number(folder, path, ret);
}

static void
read_iio_channel(void *arg, int folder, const char *file)
{
	char channel[LINE_CAP], kind[LINE_CAP], path[2 * LINE_CAP];
	const struct device *device = arg;
	const char *topic = kind;
	double value, offset, scale;
	bool raw = cut(file, "in_", "_raw", channel, sizeof channel);

	if (!raw && !cut(file, "in_", "_input", channel, sizeof channel))
		return;
	snprintf(kind, sizeof kind, "%.*s", (int)strcspn(channel, "0123456789_-"), channel);
	if (raw) {
		snprintf(path, sizeof path, "in_%s_input", channel);
		if (file_exists(folder, path))
			return;
	}
	if (!read_number(folder, file, &value))
		return;
	if (raw) {
		if (!read_factor(folder, channel, kind, "offset", &offset) ||
		    !read_factor(folder, channel, kind, "scale", &scale))
			return;
		value = (value + offset) * scale;
	}
	for (size_t i = 0; i < sizeof quantities / sizeof quantities[0]; i++) {
		if (strcmp(quantities[i].iio, kind) != 0)
			continue;
		topic = quantities[i].topic;
		value = value * quantities[i].times / quantities[i].over;
	}
	give(device->host, LEVELS(topic, device->folder, device->name, channel), value);
}

static void
read_iio_device(void *arg, int folder, const char *entry)
{
	struct device device = {.host = arg, .folder = entry};
	char path[TOPIC_CAP];

	read_label(folder, within(&path, entry, "name"), entry, device.name, sizeof device.name);
	each_entry(folder, entry, "in_", read_iio_channel, &device);
}

void
read_iio(struct host *host)
{
	each_entry(host->root, "sys/bus/iio/devices", "iio:device", read_iio_device, host);
}

/* --- 1-wire ------------------------------------------------------------------------------------------ */

/* "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES" and a second line ending in "t=23125". A shorted bus reads
 * as zeros, whose CRC is right; a thermometer that lost its power for a moment says 85 °C until it has
 * measured, with 0c in its seventh byte. Neither is a temperature. */
static bool
read_w1_slave(int folder, const char *path, double *ret_milli)
{
	FILE *file = open_file(folder, path);
	char check[LINE_CAP], line[LINE_CAP], *temperature;
	bool got;

	if (file == NULL)
		return false;
	got = fgets(check, sizeof check, file) && fgets(line, sizeof line, file);
	fclose(file);
	if (!got || strstr(check, "YES") == NULL)
		return false;
	if (strncmp(check, "00 00 00 00 00 00 00 00 00", 26) == 0)
		return false;
	if (strncmp(check, "50 05 ", 6) == 0 && strncmp(check + 18, "0c", 2) == 0)
		return false;
	temperature = strstr(line, "t=");
	return temperature && sscanf(temperature, "t=%lf", ret_milli) == 1;
}

static void
read_w1_device(void *arg, int folder, const char *device)
{
	struct host *host = arg;
	char path[TOPIC_CAP];
	double milli;

	/* Each read starts a new measurement, so only one of the two files is read. */
	if (file_exists(folder, within(&path, device, "temperature"))) {
		if (!read_number(folder, path, &milli))
			return;
	} else if (!read_w1_slave(folder, within(&path, device, "w1_slave"), &milli)) {
		return;
	}
	give(host, LEVELS("temperature", "w1", device), milli / 1000);
}

void
read_w1(struct host *host)
{
	each_entry(host->root, "sys/bus/w1/devices", "", read_w1_device, host);
}
