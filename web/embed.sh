#!/bin/sh
# Writes the C file that holds the files of a folder:  embed.sh folder > static_files.c
set -eu
dir=$1
n=0
echo '/* Made by embed.sh. */'
echo '#include "files.h"'
for file in "$dir"/*; do
	[ -f "$file" ] || continue
	n=$((n + 1))
	cat <<C
__asm__(".section .rodata\n"
		"static_$n: .incbin \"$file\"\n"
		"static_${n}_end: .byte 0\n"
		".previous\n");
extern const char data_$n[] __asm__("static_$n");
extern const char end_$n[] __asm__("static_${n}_end");
C
done
echo 'const StaticFile static_files[] = {'
n=0
for file in "$dir"/*; do
	[ -f "$file" ] || continue
	n=$((n + 1))
	echo "	{\"$(basename "$file")\", data_$n, end_$n},"
done
echo '};'
echo "const int static_file_count = $n;"
