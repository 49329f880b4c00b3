# Read after llama-cpp-python's own `project()`, which insists on these by a cache variable.
set(LLAMA_BUILD_COMMON OFF)
set(LLAVA_BUILD OFF)
