/*
 * event.c
 *		libcurl's sockets and timer behind one descriptor.
 *
 * libcurl tells which sockets it waits for and when it wants to be called; both go into a private epoll
 * (a timerfd for the second), whose own descriptor the http worker puts into its WaitEventSet beside
 * the latch.  So thousands of sockets come and go without touching PostgreSQL's wait event set.  The timer also serves
 * others in the worker, and threads wake it through an eventfd.
 *
 * The callbacks run inside libcurl: they throw nothing and allocate nothing.  A thread inherits the signal mask, so
 * all signals are blocked around every call that may start one, libcurl's included, or it could run a signal handler
 * of PostgreSQL's.
 *
 * No locks.
 */
#include "http/event.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "storage/fd.h"

#define EVENTS 256				/* taken from the epoll at once */

static int	epoll_fd = -1;
static int	timer_fd = -1;
static int	wake_fd = -1;		/* threads write to it */
static CURLM *multi = NULL;
static sigset_t saved_mask;
static int64 due = PG_INT64_MAX;	/* when libcurl wants to be called, by the monotonic clock in us */
static int64 wanted = PG_INT64_MAX; /* when somebody else wants the worker to wake */
static int64 armed = PG_INT64_MAX;	/* what the timer is set to */

void
queue_event_block_signals(void)
{
	sigset_t	all;

	sigfillset(&all);
	(void) pthread_sigmask(SIG_SETMASK, &all, &saved_mask);
}

void
queue_event_unblock_signals(void)
{
	(void) pthread_sigmask(SIG_SETMASK, &saved_mask, NULL);
}

/* CURLMOPT_SOCKETFUNCTION: libcurl waits, or waits no more, for a socket.  socketp: it is in the epoll. */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *userp, void *socketp)
{
	struct epoll_event event = {0};

	if (what == CURL_POLL_REMOVE)
	{
		if (socketp != NULL)
			(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	event.data.fd = fd;
	if (what != CURL_POLL_OUT)
		event.events |= EPOLLIN;
	if (what != CURL_POLL_IN)
		event.events |= EPOLLOUT;
	if (epoll_ctl(epoll_fd, socketp != NULL ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0)
	{
		if (errno == EEXIST)
			(void) epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
		else if (errno == ENOENT)
			(void) epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
	}
	if (socketp == NULL)
		(void) curl_multi_assign(multi, fd, &epoll_fd);
	return 0;
}

int64
queue_event_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* CURLMOPT_TIMERFUNCTION: call curl_multi_socket_action after so many milliseconds; -1: not at all. */
static int
on_timer(CURLM *m, long ms, void *userp)
{
	due = ms < 0 ? PG_INT64_MAX : queue_event_clock() + (int64) ms * 1000;
	return 0;
}

void
queue_event_want(int64 when)
{
	wanted = Min(wanted, when);
}

/* See event.h.  Called by threads: a write to an eventfd is all that it does. */
void
queue_event_wake(void)
{
	uint64		one = 1;

	if (write(wake_fd, &one, sizeof(one)) < 0)
		return;					/* its count is full: it is readable */
}

/* Sets the timer to the next wish: once before each sleep, not each time that libcurl changes its mind. */
void
queue_event_arm(void)
{
	struct itimerspec when = {{0}};
	int64		next = Min(due, wanted);

	if (next == armed)
		return;
	armed = next;
	if (next != PG_INT64_MAX)
	{
		when.it_value.tv_sec = next / 1000000;
		when.it_value.tv_nsec = (next % 1000000) * 1000 + 1;
	}
	(void) timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Lets the epoll watch a descriptor that stays. */
static bool
watch(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* See event.h.  Called by the http worker at its start. */
CURLM *
queue_event_init(void)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (epoll_fd < 0 || !watch(timer_fd) || !watch(wake_fd))
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("queue: could not make an epoll descriptor or a timer: %m"),
				 errhint("The limit of open files (ulimit -n) may be too low.")));
	ReserveExternalFD();
	ReserveExternalFD();
	ReserveExternalFD();
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || (multi = curl_multi_init()) == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("queue: could not initialize libcurl"),
				 errhint("The http worker is started again after a pause.")));
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	return multi;
}

int
queue_event_fd(void)
{
	return epoll_fd;
}

void
queue_event_dispatch(void)
{
	struct epoll_event events[EVENTS];
	int			running;
	int			n;

	if (wanted <= queue_event_clock())
		wanted = PG_INT64_MAX;	/* whoever wanted it is called now, and says so again */
	n = epoll_wait(epoll_fd, events, EVENTS, 0);
	if (n <= 0 && due > queue_event_clock())
		return;
	queue_event_block_signals();
	if (due <= queue_event_clock())
	{
		due = PG_INT64_MAX;
		(void) curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	for (int i = 0; i < n; i++)
	{
		int			what = 0;

		if (events[i].data.fd == timer_fd)
		{
			uint64		expirations;

			/* what it was for is done above */
			if (read(timer_fd, &expirations, sizeof(expirations)) > 0)
				armed = PG_INT64_MAX;
			continue;
		}
		if (events[i].data.fd == wake_fd)
		{
			uint64		wakes;

			(void) !read(wake_fd, &wakes, sizeof(wakes));
			continue;
		}
		if (events[i].events & EPOLLIN)
			what |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			what |= CURL_CSELECT_OUT;
		if (events[i].events & (EPOLLERR | EPOLLHUP))
			what |= CURL_CSELECT_ERR;
		(void) curl_multi_socket_action(multi, events[i].data.fd, what, &running);
	}
	queue_event_unblock_signals();
}
