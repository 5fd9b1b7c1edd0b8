#define _POSIX_C_SOURCE 200809L
#include "host_source.h"

#include <stdlib.h>
#include <string.h>

void
read_cpu(struct host *host)
{
	FILE *file = open_file(host->root, "proc/stat");
	char *line = NULL;
	size_t cap = 0;

	if (file == NULL)
		return;
	while (getline(&line, &cap, file) > 0 && strncmp(line, "cpu", 3) == 0) {
		unsigned long long user, nice, sys, idle, io = 0, irq = 0, soft = 0, steal = 0;
		char cpu[LINE_CAP], name[LINE_CAP];
		double busy, rest;
		bool known;

		/* user and nice already include the guests. */
		if (sscanf(line, "%127s %llu %llu %llu %llu %llu %llu %llu %llu", cpu, &user, &nice,
			&sys, &idle, &io, &irq, &soft, &steal) < 5)
			continue;
		snprintf(name, sizeof name, "%.60s busy", cpu);
		known = growth(host, name, user + nice + sys + irq + soft + steal, &busy);
		snprintf(name, sizeof name, "%.60s idle", cpu);
		known = growth(host, name, idle + io, &rest) && known;
		if (known && busy + rest > 0)
			give(host, LEVELS("cpu", cpu[3] ? cpu + 3 : "all"),
			    100 * busy / (busy + rest));
	}
	free(line);
	fclose(file);
}

void
read_memory(struct host *host)
{
	FILE *file = open_file(host->root, "proc/meminfo");
	unsigned long long total = 0, available = 0;
	bool has_available = false;
	char line[LINE_CAP];

	if (file == NULL)
		return;
	while (fgets(line, sizeof line, file)) {
		sscanf(line, "MemTotal: %llu kB", &total);
		if (sscanf(line, "MemAvailable: %llu kB", &available) == 1)
			has_available = true;
	}
	fclose(file);
	if (total == 0)
		return;
	give_bytes(host, LEVELS("memory", "total_bytes"), total * 1024);
	if (!has_available || available > total)
		return;
	give_bytes(host, LEVELS("memory", "available_bytes"), available * 1024);
	give_bytes(host, LEVELS("memory", "used_bytes"), (total - available) * 1024);
	give(host, LEVELS("memory", "used_percent"),
	    100 * (double)(total - available) / (double)total);
}

void
read_load(struct host *host)
{
	double one, five, fifteen;
	char line[LINE_CAP];

	if (!read_line(host->root, "proc/loadavg", line, sizeof line) ||
	    sscanf(line, "%lf %lf %lf", &one, &five, &fifteen) != 3)
		return;
	give(host, LEVELS("load", "1min"), one);
	give(host, LEVELS("load", "5min"), five);
	give(host, LEVELS("load", "15min"), fifteen);
}

void
read_uptime(struct host *host)
{
	char line[LINE_CAP];
	double seconds;

	if (read_line(host->root, "proc/uptime", line, sizeof line) &&
	    sscanf(line, "%lf", &seconds) == 1)
		give(host, LEVELS("uptime_s"), seconds);
}

void
read_disks(struct host *host)
{
	FILE *file = open_file(host->root, "proc/diskstats");
	char *line = NULL;
	size_t cap = 0;

	if (file == NULL)
		return;
	while (getline(&line, &cap, file) > 0) {
		enum { SECTOR = 512 }; /* of this file, for any sector size of the disk */
		unsigned long long read, written;
		char disk[64], device[96];

		if (sscanf(line, "%*u %*u %63s %*u %*u %llu %*u %*u %*u %llu", disk, &read,
			&written) != 3)
			continue;
		/* A partition has no folder there; the folder of a loop, ram or mapped disk has no device. */
		snprintf(device, sizeof device, "sys/block/%s/device", disk);
		if (!file_exists(host->root, device))
			continue;
		give_rate(host, LEVELS("disk", disk, "read_bytes_per_s"), read * SECTOR);
		give_rate(host, LEVELS("disk", disk, "write_bytes_per_s"), written * SECTOR);
	}
	free(line);
	fclose(file);
}

void
read_net(struct host *host)
{
	FILE *file = open_file(host->root, "proc/net/dev");
	char *line = NULL;
	size_t cap = 0;

	if (file == NULL)
		return;
	while (getline(&line, &cap, file) > 0) {
		const char *net = line + strspn(line, " ");
		char *colon = strrchr(line, ':');
		unsigned long long rx, tx;

		if (colon == NULL ||
		    sscanf(colon + 1, "%llu %*u %*u %*u %*u %*u %*u %*u %llu", &rx, &tx) != 2)
			continue;
		*colon = '\0';
		if (strcmp(net, "lo") == 0)
			continue;
		give_rate(host, LEVELS("net", net, "rx_bytes_per_s"), rx);
		give_rate(host, LEVELS("net", net, "tx_bytes_per_s"), tx);
	}
	free(line);
	fclose(file);
}
