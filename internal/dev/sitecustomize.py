"""Opens debugpy in the function's interpreter before anything else runs.

firn dev puts this folder first on PYTHONPATH and names the port in
FIRN_DEBUG_PORT. Both are gone from the environment afterwards, so that programs
that the function starts are not debugged.
"""

import os
import sys


def _begin():
    here = os.path.dirname(os.path.abspath(__file__))
    port = os.environ.pop("FIRN_DEBUG_PORT", "")
    rest = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and os.path.abspath(p) != here]
    if rest:
        os.environ["PYTHONPATH"] = os.pathsep.join(rest)
    else:
        os.environ.pop("PYTHONPATH", None)
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != here]
    if not port:
        return
    task = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
    version = "python%d.%d" % sys.version_info[:2]
    places = [task, "/opt/python/lib/%s/site-packages" % version, "/opt/python"]
    added = [p for p in places if p not in sys.path]
    sys.path.extend(added)
    try:
        import debugpy
    except ImportError:
        print("firn dev: no debugger, since the function has no debugpy: pip install debugpy -t .", file=sys.stderr)
        return
    finally:
        for p in added:
            sys.path.remove(p)
    try:
        debugpy.listen(("127.0.0.1", int(port)), in_process_debug_adapter=True)
    except TypeError:  # an older debugpy
        debugpy.listen(("127.0.0.1", int(port)))
    except Exception as error:
        print("firn dev: no debugger: %s" % error, file=sys.stderr)


_begin()

# The sitecustomize that this one has hidden, if there is one.
_this = sys.modules.pop("sitecustomize", None)
try:
    import sitecustomize  # noqa: F401
except ImportError:
    pass
finally:
    # The import under way looks itself up when it is through.
    sys.modules.setdefault("sitecustomize", _this)
