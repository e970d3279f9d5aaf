"""What runs inside the sandbox: the zygote, a session's supervisor, and the worker that runs code.

Rules of this folder: standard library only, and nothing of the rest of understudy, because it is
handed into the jail as one zip file and runs on the sandbox's own Python (3.10 or newer). The
order of trust: `zygote` and `supervisor` are ours for as long as they live; `worker` is ours until
the first line of code has run in it, and nothing that it says is believed after that.
"""
