"""Runs CPython's own test_mmap with safemmap in the place of the mmap module."""

import json
import sys
import unittest

import safemmap

sys.modules["mmap"] = safemmap

try:
    from test import test_mmap
except ImportError as error:
    print(json.dumps({"missing": str(error)}))
    sys.exit()

suite = unittest.defaultTestLoader.loadTestsFromModule(test_mmap)
tests = suite.countTestCases()  # some versions leave the skipped out of testsRun
result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2).run(suite)
print(
    json.dumps(
        {
            "run": tests,
            "failed": [
                case.id().rpartition(".")[2]
                for case, _ in result.failures + result.errors
            ],
            "skipped": [[case.id(), reason] for case, reason in result.skipped],
        }
    )
)
