#!/bin/sh
# Builds msgpack-c, jansson and mbedTLS as static libraries for a wheel: wheel_libs.sh PREFIX. cibuildwheel runs it once in each
# container (pyproject.toml); it needs git, cmake and a C compiler. Each version is a commit, so git checks what it gets.
set -eu
prefix=$1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Prepares a library for its configuration.
prepare_msgpack_c() { :; }
prepare_jansson() { :; }

# The header says it, so that what is built with it agrees: locks, and random numbers from libbus (crypto/mbed.c), which has no state
# that a fork could copy.
prepare_mbedtls() {
	sed -i 's,^//\(#define MBEDTLS_\(THREADING_C\|THREADING_PTHREAD\|PSA_CRYPTO_EXTERNAL_RNG\)\)$,\1,' \
		"$work/mbedtls/include/mbedtls/mbedtls_config.h"
}

# library NAME REPOSITORY COMMIT OPTION...
library() {
	name=$1
	repository=$2
	commit=$3
	shift 3
	git init --quiet "$work/$name"
	git -C "$work/$name" fetch --quiet --depth 1 "$repository" "$commit"
	git -C "$work/$name" checkout --quiet FETCH_HEAD
	git -C "$work/$name" submodule --quiet update --init --depth 1
	prepare_"$name"
	cmake -S "$work/$name" -B "$work/$name/build" -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib \
		-DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release -DCMAKE_POSITION_INDEPENDENT_CODE=ON \
		-DBUILD_SHARED_LIBS=OFF "$@"
	cmake --build "$work/$name/build" --parallel 2
	cmake --install "$work/$name/build"
}

# 6.0.0 of the C library
library msgpack_c https://github.com/msgpack/msgpack-c 8160ede5e20fd3019a77eea46d9c72cf6163f802 \
	-DMSGPACK_BUILD_EXAMPLES=OFF -DMSGPACK_BUILD_TESTS=OFF -DMSGPACK_ENABLE_SHARED=OFF
# 2.14.1
library jansson https://github.com/akheron/jansson ed5cae4ed0621ef409510f94270c9f8f263736d0 \
	-DJANSSON_BUILD_DOCS=OFF -DJANSSON_WITHOUT_TESTS=ON -DJANSSON_EXAMPLES=OFF -DJANSSON_BUILD_SHARED_LIBS=OFF
# 3.6.6
library mbedtls https://github.com/Mbed-TLS/mbedtls 0bebf8b8c7f07abe3571ded48a11aa907a1ffb20 \
	-DENABLE_PROGRAMS=OFF -DENABLE_TESTING=OFF -DMBEDTLS_FATAL_WARNINGS=OFF -DUSE_SHARED_MBEDTLS_LIBRARY=OFF
