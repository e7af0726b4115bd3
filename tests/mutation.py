"""What the last run of mutmut found, by module, message strings left out: `make mutation`, or python tests/mutation.py.

mutmut (settings in pyproject.toml) puts one mistake at a time into the code that splits, cuts windows, scales, repairs, measures and
resamples, and runs the tests of that code. A mistake that no test notices has survived. Those that only change the words of an error
or note do not count: a text constant with a blank in it. Exit status 1 where fewer than 80 % of the others were noticed.
"""

import ast
import json
import sys
from collections import Counter
from pathlib import Path

MUTANTS = Path(__file__).parents[1] / "mutants"
NOTICED = {
    1: "killed",
    3: "killed",
    -24: "timeout",
    24: "timeout",
    36: "timeout",
    152: "timeout",
    255: "timeout",
    -11: "killed",
    -9: "killed",
}
GOAL = 0.8


def functions(path):
    """Every version of every function, by the name that mutmut gives it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name
    }


def first_difference(a, b):
    """The first pair of nodes that differ, walking both together; None where the trees are alike."""
    if type(a) is not type(b):
        return a, b
    if isinstance(a, ast.AST):
        if isinstance(a, ast.Constant) and a.value != b.value:
            return a, b
        pairs = ((getattr(a, name, None), getattr(b, name, None)) for name in a._fields if name not in ("name", "kind"))
        return next((found for pair in pairs if (found := first_difference(*pair))), None)
    if isinstance(a, list):
        if len(a) != len(b):
            return a, b
        return next((found for pair in zip(a, b, strict=True) if (found := first_difference(*pair))), None)
    return None if a == b else (a, b)


def is_message(original, mutant):
    found = first_difference(original, mutant)
    constants = found and all(isinstance(node, ast.Constant) and isinstance(node.value, str) for node in found)
    return bool(constants) and " " in found[0].value.strip()


def main():
    total = Counter()
    for meta in sorted(MUTANTS.rglob("*.py.meta")):
        path, counts, survivors = meta.with_suffix(""), Counter(), []
        known = functions(path)
        for key, code in json.loads(meta.read_text())["exit_code_by_key"].items():
            name = key.rpartition(".")[2]
            original = known[name.rpartition("_")[0] + "_orig"]
            if code is None:
                counts["not run"] += 1
            elif is_message(original, known[name]):
                counts["message"] += 1
            elif code in NOTICED:
                counts["noticed"] += 1
            else:
                counts["survived" if code == 0 else "no test"] += 1
                survivors.append(f"  {key}: {change(original, known[name])}")
        tested = counts["noticed"] + counts["survived"] + counts["no test"]
        if tested:
            print(f"{path.relative_to(MUTANTS)}: {counts['noticed']} of {tested} noticed ({counts['noticed'] / tested:.0%}); "
                  f"{counts['message']} in messages, {counts['not run']} not run")  # fmt: skip
            if "--survivors" in sys.argv:
                print("\n".join(survivors))
        total += counts
    tested = total["noticed"] + total["survived"] + total["no test"]
    if not tested:
        print("no mutant was run: python -m mutmut run")
        return 1
    print(
        f"all: {total['noticed']} of {tested} noticed ({total['noticed'] / tested:.1%}), goal {GOAL:.0%}; {total['not run']} not run"
    )
    return 0 if total["noticed"] >= GOAL * tested else 1


def change(original, mutant):
    a, b = first_difference(original, mutant) or (None, None)
    return " -> ".join(ast.unparse(node)[:60] if isinstance(node, ast.AST) else str(node)[:60] for node in (a, b))


if __name__ == "__main__":
    sys.exit(main())
