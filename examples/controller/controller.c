/* A controller in C: policy.h inside, no file to load, no heap. It refuses to start where this build does not compute
 * what torch computed, runs at the control period, and holds the safe action where an observation cannot be trusted.
 *
 *     controller model.xml [steps=1000] [realtime=1] [fault=-1]
 *
 * realtime=0 does not wait for the clock. fault=k: the first sensor fails at step k, for one step. */
#define _POSIX_C_SOURCE 200112L

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "policy.h"
#include "robot.h"

#define NANOSECONDS 1000000000L

/* Mean, deviation and extreme of a series, without storing it. */
struct series {
    double count, mean, squares, worst;
};

static void add(struct series *s, double value)
{
    double difference = value - s->mean;
    s->count += 1;
    s->mean += difference / s->count;
    s->squares += difference * (value - s->mean);
    s->worst = value > s->worst ? value : s->worst;
}

static double deviation(const struct series *s)
{
    return s->count > 0 ? sqrt(s->squares / s->count) : 0;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void sleep_until(struct timespec *next, double period)
{
    long nanoseconds = next->tv_nsec + (long)(period * (double)NANOSECONDS);
    next->tv_sec += nanoseconds / NANOSECONDS;
    next->tv_nsec = nanoseconds % NANOSECONDS;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL) == EINTR)
        ;
}

static const char *in_words(int reason)
{
    return reason == POLICY_NOT_FINITE ? "is not finite" : reason == POLICY_TOO_LARGE ? "is too large" : "overflowed";
}

int main(int argc, char **argv)
{
    static float obs[POLICY_OBS_DIM], actions[POLICY_ACTION_DIM];
    struct series step_time = {0, 0, 0, 0}, loop_time = {0, 0, 0, 0};
    struct timespec next;
    int steps = 1000, realtime = 1, fault = -1, held = 0, place, i;
    double before = 0;

    if (argc < 2) {
        fprintf(stderr, "controller model.xml [steps=1000] [realtime=1] [fault=-1]\n");
        return 2;
    }
    for (i = 2; i < argc; i++)
        if (sscanf(argv[i], "steps=%d", &steps) + sscanf(argv[i], "realtime=%d", &realtime) +
                sscanf(argv[i], "fault=%d", &fault) < 1) {
            fprintf(stderr, "unknown: %s\n", argv[i]);
            return 2;
        }
    if ((place = policy_check()) != 0) {
        fprintf(stderr, "refused: policy_check() gives %d: this build does not compute what torch computed\n", place);
        return 4;
    }
    if (robot_open(argv[1]) != 0)
        return 3;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (i = 0; i < steps; i++) {
        int reason;
        double start;
        robot_read(obs);
        if (i == fault)
            obs[0] = NAN;
        start = now();
        reason = policy_step(obs, actions);
        add(&step_time, 1e6 * (now() - start));
        if (i > 0)
            add(&loop_time, 1e6 * (start - before));
        before = start;
        if (reason != POLICY_OK) {
            place = policy_refused(obs);
            printf("step %d: holding the safe action, %s %s\n", i, place < 0 ? "the net" : policy_obs_name(place),
                   in_words(reason));
            held++;
        }
        robot_write(actions);
        if (realtime)
            sleep_until(&next, POLICY_PERIOD);
    }
    printf("%s: %d steps, %d held, came %.17g m\n", POLICY_ENV, steps, held, robot_distance());
    printf("policy_step: mean %.1f us, worst %.1f us\n", step_time.mean, step_time.worst);
    printf("loop: mean %.1f us, jitter %.1f us (standard deviation), worst %.1f us\n", loop_time.mean,
           deviation(&loop_time), loop_time.worst);
    robot_close();
    return 0;
}
