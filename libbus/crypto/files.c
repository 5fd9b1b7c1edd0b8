#define _GNU_SOURCE
#include "crypto/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <libbus/error.h>

#include "base/config_path.h"
#include "base/fd.h"
#include "base/mem.h"
#include "crypto/mbed.h"

static int
say(const char *path, const char *what, char *ret_reason, size_t cap)
{
	snprintf(ret_reason, cap, "%.160s: %s", path, what);
	return BUS_E_TLS;
}

static int
read_all(int fd, unsigned char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = bus__fd_read(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

int
bus__file_read(const char *path, bool secret, unsigned char **ret_data, size_t *ret_len,
    char *ret_reason, size_t reason_cap)
{
	int fd = bus__fd_above_std(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)), err = 0;
	unsigned char *data = NULL;
	struct stat st;

	if (fd < 0)
		return say(path,
		    errno == ENOENT   ? "no such file: make it with 'libbus cert', or name another"
		    : errno == EACCES ? "this user may not read it"
				      : "cannot be opened",
		    ret_reason, reason_cap);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > BUS__FILE_MOST)
		err = say(path, "not a file of at most 1 MiB", ret_reason, reason_cap);
	else if (secret && (st.st_mode & S_IRWXO) != 0)
		err = say(path, "every account can read this secret: run chmod 600 on it",
		    ret_reason, reason_cap);
	else if ((data = bus__malloc((size_t)st.st_size + 1)) == NULL)
		err = BUS_E_NOMEM;
	else if (read_all(fd, data, (size_t)st.st_size) != 0)
		err = say(path, "cannot be read", ret_reason, reason_cap);
	bus__fd_close(fd);
	if (err < 0) {
		bus__free(data);
		return err;
	}
	data[st.st_size] = '\0';
	*ret_data = data;
	*ret_len = (size_t)st.st_size;
	return 0;
}

void
bus__file_free(unsigned char *data, size_t len)
{
	if (data != NULL)
		mbedtls_platform_zeroize(data, len);
	bus__free(data);
}

char *
bus__file_default(const char *name)
{
	char *path;

	return bus__config_path(name, &path) == 0 ? path : NULL;
}
