#!/bin/sh
# ./build.sh && ./hello
# PREFIX is the folder that libbus was installed in.
set -eu
: "${PREFIX:=/usr/local}"
${CC:-cc} -O2 -Wall -I"$PREFIX/include" ../../c/hello.c -o hello -L"$PREFIX/lib" -Wl,-rpath,"$PREFIX/lib" -lbus
