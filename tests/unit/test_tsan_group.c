/* A group that reloads among threads, for ThreadSanitizer. */
#include "group_threads.h"

int main(void) { return test_all(); }
