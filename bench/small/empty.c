/* small/empty.c: a C program that does nothing until somebody presses Enter. */
#include <stdio.h>

int
main(void)
{
	getchar();
	return 0;
}
