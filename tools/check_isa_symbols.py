#!/usr/bin/env python3
"""Check that nothing compiled for one instruction-set level can leak out of its objects.

The linker keeps one copy of an inline function. If an AVX-512 object brought a copy of, say,
std::max<float>, that copy could be the one that everybody calls, on every CPU. So each object of
csrc/kernels may define global or weak symbols only inside namespace handmill::<level>, may not run
code at load time, and may call nothing but itself and a few C functions of memory and rounding.

    python tools/check_isa_symbols.py BUILD_DIR
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

LEVELS = ("portable", "avx2", "avx512", "avx512_bf16", "avx2_vnni", "avx512_vnni", "neon")

# What an object may take from outside: the memory functions that the compiler itself emits,
# roundings and fma, which are exact and so the same from every libm.
ALLOWED_IMPORTS = re.compile(
    r"mem(cpy|move|set|cmp)|(ceil|floor|rint|nearbyint|roundeven|trunc|fma|sqrt)f?"
    r"|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail"
)
LOAD_TIME_SECTIONS = re.compile(r"\.(init_array|ctors|preinit_array|tdata|tbss)\b")


def run(*command: str | Path, text: str = "") -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, input=text).stdout


def in_namespace(symbol: str, level: str) -> bool:
    """True for a mangled name whose outermost scope is handmill::level, also of a local entity."""
    scope = f"8handmill{len(level)}{level}"
    return re.match(rf"_Z(T[VTISHW]|G[VR])?Z*N[VKRO]*{scope}", symbol) is not None


def findings(obj: Path, level: str) -> list[str]:
    found = []
    for line in run("nm", "--format=posix", obj).splitlines():
        symbol, kind = line.split()[:2]
        inside = in_namespace(symbol, level)
        if kind in "Uwv":  # undefined
            if not inside and not ALLOWED_IMPORTS.fullmatch(symbol):
                found.append(f"takes {symbol} from outside")
        elif (kind.isupper() or kind == "u") and not inside:
            word = "weak" if kind in "WVu" else "global"
            found.append(f"defines the {word} symbol {symbol}")
    headers = run("objdump", "--section-headers", obj)
    for section in sorted(set(re.findall(LOAD_TIME_SECTIONS, headers))):
        found.append(f"has a section .{section}: code that runs at load time, or thread storage")
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("build_dir", type=Path)
    build_dir = parser.parse_args(argv).build_dir
    objects = {
        level: sorted(build_dir.glob(f"**/CMakeFiles/kernels_{level}.dir/**/*.o"))
        for level in LEVELS
    }
    if not any(objects.values()):
        print(f"no kernel objects under {build_dir}: build first", file=sys.stderr)
        return 2
    bad = 0
    for level, paths in objects.items():
        for obj in paths:
            found = findings(obj, level)
            bad += len(found)
            for line in run("c++filt", text="\n".join(found)).splitlines():
                print(f"{level}/{obj.name}: {line}")
    counts = ", ".join(f"{level} {len(paths)}" for level, paths in objects.items() if paths)
    print(f"symbol check: {bad} finding(s) in the objects of: {counts}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
