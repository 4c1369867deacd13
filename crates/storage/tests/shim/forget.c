/*
 * Records what a process does to the files below one directory, so that a power loss can be played afterwards.
 *
 * Preloaded into the process that is to be killed. Every system call that changes a file or a name is trapped by a seccomp
 * filter and made here, and then recorded in a journal: memory shared with a file, which survives kill -9. Trapping the calls
 * instead of wrapping libc's functions leaves no way past: some crates make system calls without libc. A call whose effect is
 * not modelled ends the process with a sentence.
 *
 * Calls on watched files are made and recorded under one lock, so the journal has them in the order in which they happened.
 * A sync is recorded twice, when it begins and when it ends: what was recorded before it began is durable if it ended. It does
 * not reach the disk, since only the process dies; it waits a little instead, so that writes overlap with it.
 *
 * FORGET_ROOT        the directory that is watched, without symbolic links
 * FORGET_JOURNAL     the journal's file, as long as it may become
 * FORGET_SYNC_MICROS a sync takes up to so long
 * FORGET_STOP_AFTER  the process kills itself before it records more than so many calls
 * FORGET_LIES        if set, syncs do nothing: a disk that lies
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/falloc.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* The system call instruction that the filter lets through: the one that ends at forget_call_end. */
extern long forget_call(long number, long a, long b, long c, long d, long e, long f);
extern const char forget_call_end[];

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
__asm__(".text\n.hidden forget_call\n.globl forget_call\n.type forget_call,@function\nforget_call:\n"
        "mov %rdi,%rax\nmov %rsi,%rdi\nmov %rdx,%rsi\nmov %rcx,%rdx\nmov %r8,%r10\nmov %r9,%r8\nmov 8(%rsp),%r9\nsyscall\n"
        ".hidden forget_call_end\n.globl forget_call_end\nforget_call_end:\nret\n");
#define ARGUMENT(context, n)                                                                                             \
    ((long)(context)->uc_mcontext.gregs[(int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9}[n]])
#define RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
__asm__(".text\n.hidden forget_call\n.globl forget_call\n.type forget_call,%function\nforget_call:\n"
        "mov x8,x0\nmov x0,x1\nmov x1,x2\nmov x2,x3\nmov x3,x4\nmov x4,x5\nmov x5,x6\nsvc #0\n"
        ".hidden forget_call_end\n.globl forget_call_end\nforget_call_end:\nret\n");
#define ARGUMENT(context, n) ((long)(context)->uc_mcontext.regs[n])
#define RESULT(context) ((context)->uc_mcontext.regs[0])
#else
#error "the shim knows x86-64 and aarch64"
#endif

enum kind { WRITE = 1, TRUNCATE, CREATE, MAKE_DIRECTORY, RENAME, REMOVE, SYNC_BEGINS, SYNC_ENDS };

/* Followed by the path, two of them with a zero between for a rename, then the bytes written, then zeros up to a multiple of 8. */
struct record {
    uint32_t kind;
    uint32_t path_bytes;
    uint64_t inode;
    uint64_t offset; /* of a write; the length after a truncation; the number of a sync */
    uint64_t bytes;
};

/* The journal's head. What is pending is being done to these paths, perhaps in part. */
struct head {
    _Atomic uint64_t loaded;
    _Atomic uint64_t end; /* of the records, which begin behind the head */
    _Atomic uint64_t pending;
    char paths[2][PATH_MAX];
};

static struct head *journal;
static uint64_t journal_bytes;
static char root[PATH_MAX];
static size_t root_length;
static uint64_t sync_micros, stop_after = UINT64_MAX, calls, syncs, noise = 88172645463325252u;
static int lies;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static _Noreturn void stop(const char *why, const char *what) {
    struct iovec parts[] = {{"the shim: ", 10}, {(void *)why, strlen(why)}, {(void *)what, strlen(what)}, {"\n", 1}};
    forget_call(SYS_writev, 2, (long)parts, 4, 0, 0, 0);
    _exit(97);
}

static long make(const long call[7]) {
    return forget_call(call[0], call[1], call[2], call[3], call[4], call[5], call[6]);
}

/* The part below the root of what is called so: "" for the root itself, none where it is elsewhere. */
static const char *below(const char *path) {
    if (strncmp(path, root, root_length) != 0) return NULL;
    if (path[root_length] == 0) return path + root_length;
    return path[root_length] == '/' ? path + root_length + 1 : NULL;
}

static int link_target(const char *link, int fd, char *out) {
    char name[64];
    size_t length = strlen(link);
    memcpy(name, link, length);
    if (fd >= 0) {
        char digits[16], *at = digits + sizeof digits;
        do *--at = '0' + fd % 10; while ((fd /= 10) != 0);
        memcpy(name + length, at, digits + sizeof digits - at);
        length += digits + sizeof digits - at;
    }
    name[length] = 0;
    ssize_t got = readlink(name, out, PATH_MAX - 1);
    if (got < 0) return 0;
    out[got] = 0;
    return 1;
}

static const char *file_below(int fd, char *buffer) {
    return fd >= 0 && link_target("/proc/self/fd/", fd, buffer) ? below(buffer) : NULL;
}

static const char *path_below(int directory, const char *path, char *buffer) {
    size_t base = 0;
    if (path[0] != '/') {
        int found = directory == AT_FDCWD ? link_target("/proc/self/cwd", -1, buffer)
                                          : link_target("/proc/self/fd/", directory, buffer);
        if (!found) return NULL;
        base = strlen(buffer);
        buffer[base++] = '/';
    }
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    if (base + length >= PATH_MAX) return NULL;
    memcpy(buffer + base, path, length);
    buffer[base + length] = 0;
    const char *found = below(buffer);
    if (found && strstr(found, "..")) stop("does not resolve ", path);
    return found;
}

/* Before a call is made: what it touches may from now on be in any state. Called with the lock. */
static void begin(const char *path, const char *other) {
    if (++calls > stop_after) {
        forget_call(SYS_kill, getpid(), SIGKILL, 0, 0, 0, 0);
        for (;;) pause();
    }
    strcpy(journal->paths[0], path);
    strcpy(journal->paths[1], other);
    atomic_store(&journal->pending, 1);
}

static void reserve(uint64_t bytes) {
    if (atomic_load(&journal->end) + sizeof(struct head) + bytes > journal_bytes) stop("the journal is full", "");
}

/* After it was made. The record counts from the moment in which the journal's end is moved behind it. */
static void record(enum kind kind, uint64_t inode, uint64_t offset, const char *path, uint32_t path_bytes,
                   const struct iovec *parts, uint64_t bytes) {
    uint64_t end = atomic_load(&journal->end);
    uint64_t length = (sizeof(struct record) + path_bytes + bytes + 7) & ~7ull;
    reserve(length);
    char *at = (char *)(journal + 1) + end;
    struct record head = {kind, path_bytes, inode, offset, bytes};
    memcpy(at, &head, sizeof head);
    memcpy(at + sizeof head, path, path_bytes);
    at += sizeof head + path_bytes;
    while (bytes > 0) {
        uint64_t part = parts->iov_len < bytes ? parts->iov_len : bytes;
        memcpy(at, parts->iov_base, part);
        at += part;
        bytes -= part;
        parts++;
    }
    atomic_store(&journal->end, end + length);
}

static void done(void) { atomic_store(&journal->pending, 0); }

static uint64_t inode_of(int fd, uint64_t *size) {
    struct stat found;
    if (fstat(fd, &found) != 0) stop("cannot ask for a file's inode", "");
    if (size) *size = found.st_size;
    return found.st_ino;
}

static long write_file(const long call[7], int fd, const struct iovec *parts, long offset) {
    char buffer[PATH_MAX];
    const char *path = file_below(fd, buffer);
    if (!path) return make(call);
    pthread_mutex_lock(&lock);
    uint64_t size, inode = inode_of(fd, &size);
    int flags = fcntl(fd, F_GETFL);
    if (offset < 0) offset = flags & O_APPEND ? (long)size : lseek(fd, 0, SEEK_CUR);
    else if (flags & O_APPEND) stop("does not know writes at a place of a file that is appended to: ", path);
    begin(path, "");
    long result = make(call);
    if (result > 0) record(WRITE, inode, offset, "", 0, parts, result);
    done();
    pthread_mutex_unlock(&lock);
    return result;
}

static long resize(const long call[7], int fd, uint64_t length, int only_grows) {
    char buffer[PATH_MAX];
    const char *path = file_below(fd, buffer);
    if (!path) return make(call);
    pthread_mutex_lock(&lock);
    begin(path, "");
    long result = make(call);
    uint64_t size, inode = inode_of(fd, &size);
    if (result == 0 && !(only_grows && length < size)) record(TRUNCATE, inode, length, "", 0, NULL, 0);
    done();
    pthread_mutex_unlock(&lock);
    return result;
}

static long open_file(const long call[7], int directory, const char *name, int flags) {
    char buffer[PATH_MAX];
    const char *path = flags & (O_CREAT | O_TRUNC) ? path_below(directory, name, buffer) : NULL;
    if ((flags & O_TMPFILE) == O_TMPFILE && path_below(directory, name, buffer)) stop("does not know files without a name", "");
    if (!path) return make(call);
    pthread_mutex_lock(&lock);
    struct stat before;
    int existed = lstat(buffer, &before) == 0;
    begin(path, "");
    long result = make(call);
    if (result >= 0 && !existed) record(CREATE, inode_of(result, NULL), 0, path, strlen(path), NULL, 0);
    if (result >= 0 && existed && flags & O_TRUNC) record(TRUNCATE, inode_of(result, NULL), 0, "", 0, NULL, 0);
    done();
    pthread_mutex_unlock(&lock);
    return result;
}

static long change_name(const long call[7], enum kind kind, int directory, const char *name) {
    char buffer[PATH_MAX];
    const char *path = path_below(directory, name, buffer);
    if (!path) return make(call);
    pthread_mutex_lock(&lock);
    begin(path, "");
    long result = make(call);
    struct stat made = {0};
    if (kind == MAKE_DIRECTORY && result == 0) lstat(buffer, &made);
    if (result == 0) record(kind, made.st_ino, 0, path, strlen(path), NULL, 0);
    done();
    pthread_mutex_unlock(&lock);
    return result;
}

static long rename_file(const long call[7], int from_directory, const char *from, int to_directory, const char *to) {
    static char paths[2 * PATH_MAX];
    char from_buffer[PATH_MAX], to_buffer[PATH_MAX];
    const char *old = path_below(from_directory, from, from_buffer), *new = path_below(to_directory, to, to_buffer);
    if (!old && !new) return make(call);
    if (!old || !new) stop("does not know a rename into or out of the directory: ", from);
    pthread_mutex_lock(&lock);
    begin(old, new);
    long result = make(call);
    size_t length = strlen(old) + 1;
    memcpy(paths, old, length);
    strcpy(paths + length, new);
    if (result == 0) record(RENAME, 0, 0, paths, length + strlen(new), NULL, 0);
    done();
    pthread_mutex_unlock(&lock);
    return result;
}

static long sync_file(const long call[7], int fd) {
    char buffer[PATH_MAX];
    const char *path = file_below(fd, buffer);
    if (!path) return make(call);
    if (lies) return 0;
    pthread_mutex_lock(&lock);
    uint64_t inode = inode_of(fd, NULL), number = ++syncs;
    begin(path, "");
    record(SYNC_BEGINS, inode, number, "", 0, NULL, 0);
    done();
    noise ^= noise << 13, noise ^= noise >> 7, noise ^= noise << 17;
    uint64_t micros = sync_micros ? noise % sync_micros : 0;
    pthread_mutex_unlock(&lock);
    struct timespec pause = {micros / 1000000, micros % 1000000 * 1000};
    nanosleep(&pause, NULL);
    pthread_mutex_lock(&lock);
    begin(path, "");
    record(SYNC_ENDS, inode, number, "", 0, NULL, 0);
    done();
    pthread_mutex_unlock(&lock);
    return 0;
}

/* A call that is fine elsewhere, and whose effect on a watched file is not modelled. */
static long refuse(const long call[7], int fd, const char *name) {
    char buffer[PATH_MAX];
    if (file_below(fd, buffer)) stop("does not know the call ", name);
    return make(call);
}

static long dispatch(const long call[7]) {
    const long *a = call + 1;
    struct iovec one = {(void *)a[1], a[2]};
    switch (call[0]) {
    case SYS_write: return write_file(call, a[0], &one, -1);
    case SYS_pwrite64: return write_file(call, a[0], &one, a[3]);
    case SYS_writev: return write_file(call, a[0], (struct iovec *)a[1], -1);
    case SYS_pwritev: case SYS_pwritev2: return write_file(call, a[0], (struct iovec *)a[1], a[3]);
    case SYS_ftruncate: return resize(call, a[0], a[1], 0);
    case SYS_fallocate:
        return a[1] == 0 ? resize(call, a[0], a[2] + a[3], 1) : refuse(call, a[0], "fallocate with flags");
    case SYS_openat: return open_file(call, a[0], (char *)a[1], a[2]);
    case SYS_mkdirat: return change_name(call, MAKE_DIRECTORY, a[0], (char *)a[1]);
    case SYS_unlinkat: return change_name(call, REMOVE, a[0], (char *)a[1]);
    case SYS_renameat2:
        if (a[4] & ~1l) stop("does not know a rename that exchanges", "");
        return rename_file(call, a[0], (char *)a[1], a[2], (char *)a[3]);
    case SYS_renameat: return rename_file(call, a[0], (char *)a[1], a[2], (char *)a[3]);
#ifdef SYS_open
    case SYS_open: return open_file(call, AT_FDCWD, (char *)a[0], a[1]);
    case SYS_creat: return open_file(call, AT_FDCWD, (char *)a[0], O_CREAT | O_TRUNC);
    case SYS_mkdir: return change_name(call, MAKE_DIRECTORY, AT_FDCWD, (char *)a[0]);
    case SYS_unlink: case SYS_rmdir: return change_name(call, REMOVE, AT_FDCWD, (char *)a[0]);
    case SYS_rename: return rename_file(call, AT_FDCWD, (char *)a[0], AT_FDCWD, (char *)a[1]);
    case SYS_link: case SYS_symlink: stop("does not know links: ", (char *)a[1]);
#endif
    case SYS_fsync: case SYS_fdatasync: return sync_file(call, a[0]);
    /* Promises nothing: neither the file's length nor the disk's cache. */
    case SYS_sync_file_range: return 0;
    case SYS_mmap: return refuse(call, a[4], "mmap for writing");
    case SYS_copy_file_range: return refuse(call, a[2], "copy_file_range");
    case SYS_sendfile: return refuse(call, a[0], "sendfile");
    case SYS_splice: return refuse(call, a[2], "splice");
    case SYS_linkat: case SYS_symlinkat: case SYS_truncate: case SYS_openat2: case SYS_io_uring_setup: case SYS_sync:
    case SYS_syncfs: stop("does not know a call that the process makes", "");
    default: return make(call);
    }
}

static const int trapped[] = {
    SYS_write, SYS_pwrite64, SYS_writev, SYS_pwritev, SYS_pwritev2, SYS_ftruncate, SYS_fallocate, SYS_openat, SYS_mkdirat,
    SYS_unlinkat, SYS_renameat2, SYS_renameat, SYS_fsync, SYS_fdatasync, SYS_sync_file_range, SYS_copy_file_range,
    SYS_sendfile, SYS_splice, SYS_linkat, SYS_symlinkat, SYS_truncate, SYS_openat2, SYS_io_uring_setup, SYS_sync, SYS_syncfs,
#ifdef SYS_open
    SYS_open, SYS_creat, SYS_mkdir, SYS_unlink, SYS_rmdir, SYS_rename, SYS_link, SYS_symlink,
#endif
};
enum { TRAPPED = sizeof trapped / sizeof trapped[0] };

static void on_trap(int signal, siginfo_t *info, void *data) {
    (void)signal;
    ucontext_t *context = data;
    int kept = errno;
    const long call[7] = {info->si_syscall,     ARGUMENT(context, 0), ARGUMENT(context, 1), ARGUMENT(context, 2),
                          ARGUMENT(context, 3), ARGUMENT(context, 4), ARGUMENT(context, 5)};
    RESULT(context) = dispatch(call);
    errno = kept;
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define HAS(bits, yes, no) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, yes, no)
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)

static void trap_calls(void) {
    uint64_t own = (uint64_t)(uintptr_t)forget_call_end;
    const struct sock_filter first[] = {
        LOAD(arch), IS(ARCHITECTURE, 1, 0), RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(instruction_pointer), IS((uint32_t)own, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        IS((uint32_t)(own >> 32), 0, 1), RETURN(SECCOMP_RET_ALLOW),
        LOAD(nr), IS(SYS_mmap, 0, 6),
        LOAD(args[2]), HAS(PROT_WRITE, 0, 3), LOAD(args[3]), HAS(MAP_SHARED, 0, 1), RETURN(SECCOMP_RET_TRAP),
        RETURN(SECCOMP_RET_ALLOW),
    };
    enum { FIRST = sizeof first / sizeof first[0] };
    struct sock_filter filter[FIRST + 2 * TRAPPED + 1];
    memcpy(filter, first, sizeof first);
    for (int i = 0; i < TRAPPED; i++) {
        filter[FIRST + 2 * i] = (struct sock_filter)IS((uint32_t)trapped[i], 0, 1);
        filter[FIRST + 2 * i + 1] = (struct sock_filter)RETURN(SECCOMP_RET_TRAP);
    }
    filter[FIRST + 2 * TRAPPED] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        stop("seccomp filters are not allowed here", "");
}

static uint64_t number_of(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

__attribute__((constructor)) static void load(void) {
    const char *watched = getenv("FORGET_ROOT"), *file = getenv("FORGET_JOURNAL");
    if (!watched || !file) return;
    strncpy(root, watched, sizeof root - 1);
    root_length = strlen(root);
    sync_micros = number_of("FORGET_SYNC_MICROS", 0);
    stop_after = number_of("FORGET_STOP_AFTER", UINT64_MAX);
    lies = getenv("FORGET_LIES") != NULL;
    noise ^= getpid();
    int fd = open(file, O_RDWR | O_CLOEXEC);
    struct stat found;
    if (fd < 0 || fstat(fd, &found) != 0) stop("cannot open ", file);
    journal_bytes = found.st_size;
    journal = mmap(NULL, journal_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (journal == MAP_FAILED) stop("cannot map ", file);
    close(fd);
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGSYS, &action, NULL) != 0) stop("cannot handle SIGSYS", "");
    trap_calls();
    atomic_store(&journal->loaded, 1);
}
