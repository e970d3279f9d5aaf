"""Which files a message may show as an image: by their extension, as the original did."""

# Extension → MIME type.
IMAGE_TYPES = {
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
# `assistants_output` is what code_interpreter drew, which a client may show again.
IMAGE_PURPOSES = frozenset({"vision", "assistants", "assistants_output"})
