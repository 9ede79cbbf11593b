/* A clock that is off: preloaded, it adds $BOX_CLOCK_S seconds to the time of day and to files' times as a
   program reads them, and takes them off the times that it sets. Time that passes is left alone. The C
   library's names are declared here, so that no headers are needed. Linux, 64 bit, glibc. */

typedef struct { long sec, nsec; } moment;
typedef struct { char head[72]; moment a, m, c; } status; /* struct stat: the same places on x86-64 and arm64 */
typedef struct { long sec; unsigned nsec; int pad; } momentx;
typedef struct { char head[64]; momentx a, b, c, m; } statusx;

extern void *dlsym(void *, const char *);
extern char *getenv(const char *);
extern long atol(const char *);

static long off(void) {
    static long told;
    static int known;
    if (!known) {
        char *text = getenv("BOX_CLOCK_S");
        told = text ? atol(text) : 0;
        known = 1;
    }
    return told;
}

#define TRUE_ONE(name, takes) \
    static int(*one) takes; \
    if (!one) one = (int(*) takes)dlsym((void *)-1, name)

int clock_gettime(int clock, moment *now) {
    TRUE_ONE("clock_gettime", (int, moment *));
    int said = one(clock, now);
    if (!said && (clock == 0 || clock == 5)) now->sec += off();
    return said;
}

int gettimeofday(moment *now, void *zone) {
    TRUE_ONE("gettimeofday", (moment *, void *));
    int said = one(now, zone);
    if (!said && now) now->sec += off();
    return said;
}

long time(long *there) {
    moment now;
    clock_gettime(0, &now);
    if (there) *there = now.sec;
    return now.sec;
}

static int seen(int said, status *file) {
    if (!said) file->a.sec += off(), file->m.sec += off(), file->c.sec += off();
    return said;
}

#define BY_PATH(name) \
    int name(const char *path, status *file) { \
        TRUE_ONE(#name, (const char *, status *)); \
        return seen(one(path, file), file); \
    }
#define BY_NUMBER(name) \
    int name(int number, status *file) { \
        TRUE_ONE(#name, (int, status *)); \
        return seen(one(number, file), file); \
    }
#define BY_BOTH(name) \
    int name(int number, const char *path, status *file, int flags) { \
        TRUE_ONE(#name, (int, const char *, status *, int)); \
        return seen(one(number, path, file, flags), file); \
    }
BY_PATH(stat) BY_PATH(stat64) BY_PATH(lstat) BY_PATH(lstat64)
BY_NUMBER(fstat) BY_NUMBER(fstat64)
BY_BOTH(fstatat) BY_BOTH(fstatat64)

int statx(int number, const char *path, int flags, unsigned mask, statusx *file) {
    TRUE_ONE("statx", (int, const char *, int, unsigned, statusx *));
    int said = one(number, path, flags, mask, file);
    if (!said) file->a.sec += off(), file->b.sec += off(), file->c.sec += off(), file->m.sec += off();
    return said;
}

static moment *meant(const moment *times, moment *changed) {
    int i;
    if (!times) return 0;
    for (i = 0; i < 2; i++) {
        changed[i] = times[i];
        if (times[i].nsec < 0x3ffffffe) changed[i].sec -= off(); /* not "now", not "leave it" */
    }
    return changed;
}

int utimensat(int number, const char *path, const moment *times, int flags) {
    TRUE_ONE("utimensat", (int, const char *, const moment *, int));
    moment changed[2];
    return one(number, path, meant(times, changed), flags);
}

int futimens(int number, const moment *times) {
    TRUE_ONE("futimens", (int, const moment *));
    moment changed[2];
    return one(number, meant(times, changed));
}

int utimes(const char *path, const moment *times) {
    TRUE_ONE("utimes", (const char *, const moment *));
    moment changed[2];
    return one(path, meant(times, changed));
}
