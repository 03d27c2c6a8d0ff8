"""Nothing that a user reads or downloads can run code: rules that hold for every source file, and one real server.

Malicious checkpoints, weights, pickles and arrays are among the cases of test_bad_input.py, names that lead out of an
archive in test_get_davis.py and test_get_tapvid.py, hostile names in the page in test_page.py.
"""

import ast
import http.server
import re
import shutil
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from preprocessing.archives import find_archive
from utils.errors import InputError

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = [path for path in REPOSITORY.rglob("*.py") if path.relative_to(REPOSITORY).parts[0] not in ("tests", ".venv")]
# Whatever runs what it reads, or a shell.
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "marshal.loads",
}
FORBIDDEN |= {"subprocess.getoutput", "subprocess.getstatusoutput", "shutil.unpack_archive", "shelve.open"}
FORBIDDEN |= {"ssl._create_unverified_context", "ssl.SSLContext"}
# What is safe with one value of an argument: call → (argument, value).
REQUIRED = {"torch.load": ("weights_only", True)}
# What turns a check off, wherever it is said.
REFUSED = {("shell", True), ("allow_pickle", True), ("weights_only", False), ("verify", False), ("check_hash", False)}


def dangers(source: str) -> list[str]:
    """Calls in a source that the rules forbid."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in ("extractall", "extract", "CERT_NONE", "check_hostname"):
            found.append(node.attr)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {(word.arg, word.value.value) for word in node.keywords if isinstance(word.value, ast.Constant)}
        found += [name] if name in FORBIDDEN else []
        found += [f"{argument}={value!r}" for argument, value in given & REFUSED]
        found += [name] if name in REQUIRED and REQUIRED[name] not in given else []
        found += [name] if name.endswith("urlopen") and "context" in {word.arg for word in node.keywords} else []
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_source_runs_what_it_reads(path):
    source = path.read_text(encoding="utf-8")
    assert dangers(source) == []
    assert re.findall(r"""["']http://[^"']+""", source) == []


BROKEN = """
eval(text)
os.system('ls')
subprocess.run('ls', shell=True)
np.load(path, allow_pickle=True)
torch.load(path)
torch.load(path, weights_only=False)
archive.extractall()
pickle.loads(data)
urlopen(url, context=nothing)
context.verify_mode = ssl.CERT_NONE
fetch(url, check_hash=False)
"""


@pytest.mark.parametrize("source", BROKEN.split("\n")[1:-1])
def test_the_rules_can_be_broken(source):
    assert dangers(source) != []


def test_a_server_without_a_trusted_certificate_is_refused(tmp_path):
    """TLS is verified by default: a certificate that its owner signed himself does not do."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("localhost", 0), http.server.SimpleHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://localhost:{server.server_port}/archive.zip"
        with pytest.raises(InputError, match="CERTIFICATE_VERIFY_FAILED"):
            find_archive(None, url, tmp_path / "data")
        server.shutdown()
    assert not list((tmp_path / "data").glob("archive.zip*"))
