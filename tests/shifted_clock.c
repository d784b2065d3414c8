/* shifted_clock: preloaded, it moves the wall clock of a process, and of all that it starts, by as many seconds as the
   file named by SHIFTED_CLOCK says at that moment.  Monotonic clocks, sleeps and time-outs stay as they are: Debian 12's
   faketime breaks time.sleep of Python 3.11 and later (wolfcw/libfaketime issue 426). */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char *seconds;

__attribute__((constructor)) static void open_file(void) {
    int file = open(getenv("SHIFTED_CLOCK"), O_RDONLY);
    void *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) abort();
    seconds = page;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME && seconds) now->tv_sec += atol(seconds);
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *kept) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (kept) *kept = now.tv_sec;
    return now.tv_sec;
}
