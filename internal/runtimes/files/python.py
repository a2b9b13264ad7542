# Lays out the search path as Lambda does and hands over to the runtime
# interface client.
import os
import site
import sys


def paths():
    task = os.environ["LAMBDA_TASK_ROOT"]
    runtime = os.path.dirname(os.path.abspath(__file__))
    found = [task]
    if "PYTHONPATH" not in os.environ:
        # A PYTHONPATH of the function's own replaces the places in layers.
        python = os.path.join(os.environ.pop("_FIRN_OPT", "/opt"), "python")
        version = "python%d.%d" % sys.version_info[:2]
        found += [os.path.join(python, "lib", version, "site-packages"), python]
        os.environ["PYTHONPATH"] = runtime  # for programs that the function starts
    os.environ.pop("_FIRN_OPT", None)
    sys.path[:0] = [p for p in found if p not in sys.path]
    for p in found:
        site.addsitedir(p)  # .pth files


def locale():
    # Up to 3.11 AWS's system has the locale that LANG names, and Python has no
    # cause to set another one, as it does on systems without.
    if sys.version_info < (3, 12) and "LC_CTYPE" in os.environ:
        with open("/proc/self/environ", "rb") as f:
            if b"\0LC_CTYPE=" not in b"\0" + f.read():
                del os.environ["LC_CTYPE"]


if __name__ == "__main__":
    paths()
    locale()

    # Under this name of the main module instrumentation looks for the client,
    # to put itself around its functions.
    import awslambdaric.__main__ as awslambdaricmain

    awslambdaricmain.main([sys.argv[0], os.environ.get("_HANDLER", "")])
