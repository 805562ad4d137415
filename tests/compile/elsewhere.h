/* Put before a test, makes Linux look like another system of POSIX: without what only Linux has
 * (eventfd, membarrier, accept4, pipe2, getrandom) and what POSIX.1-2008 has not asked for. */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#undef __linux__
#undef MSG_NOSIGNAL
#undef SOCK_CLOEXEC
#undef SOCK_NONBLOCK
