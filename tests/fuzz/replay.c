/* Runs a fuzz target over the files of a directory, so that what it once met stays a test with any
 * compiler. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The payload stands in a block of exactly its size: a sanitizer sees any step beyond it. */
static int
replay(const char *path)
{
	uint8_t *data = NULL;
	FILE *file = fopen(path, "rb");
	long len = -1;

	if (file != NULL && fseek(file, 0, SEEK_END) == 0)
		len = ftell(file);
	if (len > 0)
		data = malloc((size_t)len);
	if (data == NULL || fseek(file, 0, SEEK_SET) != 0 ||
	    fread(data, 1, (size_t)len, file) != (size_t)len) {
		fprintf(stderr, "cannot read %s\n", path);
		return 1;
	}
	printf("%s\n", path);
	fflush(stdout); /* if the target aborts, this was the file */
	LLVMFuzzerTestOneInput(data, (size_t)len);
	free(data);
	fclose(file);
	return 0;
}

int
main(int argc, char **argv)
{
	struct dirent *entry;
	int files = 0, failed = 0;
	DIR *dir;

	if (argc != 2 || chdir(argv[1]) != 0 || (dir = opendir(".")) == NULL) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return 2;
	}
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		failed += replay(entry->d_name);
		files++;
	}
	closedir(dir);
	return failed > 0 || files == 0;
}
