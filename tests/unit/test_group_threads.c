/* A group that reloads among threads, for AddressSanitizer: nobody uses what has been freed. */
#include "group_threads.h"

int main(void) { return test_all(); }
