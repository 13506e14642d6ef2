"""System call numbers by name, for the machines whose programs the seccomp filter must judge.

An amd64 kernel also runs 32-bit programs (x86) and the x32 ones (64-bit registers, short pointers); an
arm64 kernel also runs arm ones. Each has numbers of its own, and a filter that forgets one is a hole.
Source: the kernel's tables (arch/*/…/syscall*.tbl); tests compare with linux-libc-dev and libseccomp.
"""

from __future__ import annotations

from functools import cache

X32_BIT = 0x40000000  # marks the x32 numbers on amd64
ARM_PRIVATE = 0xF0000  # arm's few extra calls (cacheflush, …) live far above all others
ABIS = ("x86_64", "x86", "aarch64", "arm", "x32")

# name:x86_64,x86,aarch64,arm[,x32 where it is not x86_64's]; "-": not there; one number: everywhere.
_TABLE = """
read:0,3,63,3 write:1,4,64,4 open:2,5,-,5 close:3,6,57,6 stat:4,106,-,106 fstat:5,108,80,108
lstat:6,107,-,107 poll:7,168,-,168 lseek:8,19,62,19 mmap:9,90,222,- mprotect:10,125,226,125
munmap:11,91,215,91 brk:12,45,214,45 rt_sigaction:13,174,134,174,512 rt_sigprocmask:14,175,135,175
rt_sigreturn:15,173,139,173,513 ioctl:16,54,29,54,514 pread64:17,180,67,180 pwrite64:18,181,68,181
readv:19,145,65,145,515 writev:20,146,66,146,516 access:21,33,-,33 pipe:22,42,-,42 select:23,82,-,-
sched_yield:24,158,124,158 mremap:25,163,216,163 msync:26,144,227,144 mincore:27,218,232,219
madvise:28,219,233,220 shmget:29,395,194,307 shmat:30,397,196,305 shmctl:31,396,195,308 dup:32,41,23,41
dup2:33,63,-,63 pause:34,29,-,29 nanosleep:35,162,101,162 getitimer:36,105,102,105 alarm:37,27,-,-
setitimer:38,104,103,104 getpid:39,20,172,20 sendfile:40,187,71,187 socket:41,359,198,281
connect:42,362,203,283 accept:43,-,202,285 sendto:44,369,206,290 recvfrom:45,371,207,292,517
sendmsg:46,370,211,296,518 recvmsg:47,372,212,297,519 shutdown:48,373,210,293 bind:49,361,200,282
listen:50,363,201,284 getsockname:51,367,204,286 getpeername:52,368,205,287 socketpair:53,360,199,288
setsockopt:54,366,208,294,541 getsockopt:55,365,209,295,542 clone:56,120,220,120 fork:57,2,-,2
vfork:58,190,-,190 execve:59,11,221,11,520 exit:60,1,93,1 wait4:61,114,260,114 kill:62,37,129,37
uname:63,122,160,122 semget:64,393,190,299 semop:65,-,193,298 semctl:66,394,191,300 shmdt:67,398,197,306
msgget:68,399,186,303 msgsnd:69,400,189,301 msgrcv:70,401,188,302 msgctl:71,402,187,304 fcntl:72,55,25,55
flock:73,143,32,143 fsync:74,118,82,118 fdatasync:75,148,83,148 truncate:76,92,45,92 ftruncate:77,93,46,93
getdents:78,141,-,141 getcwd:79,183,17,183 chdir:80,12,49,12 fchdir:81,133,50,133 rename:82,38,-,38
mkdir:83,39,-,39 rmdir:84,40,-,40 creat:85,8,-,8 link:86,9,-,9 unlink:87,10,-,10 symlink:88,83,-,83
readlink:89,85,-,85 chmod:90,15,-,15 fchmod:91,94,52,94 chown:92,182,-,182 fchown:93,95,55,95
lchown:94,16,-,16 umask:95,60,166,60 gettimeofday:96,78,169,78 getrlimit:97,76,163,- getrusage:98,77,165,77
sysinfo:99,116,179,116 times:100,43,153,43 ptrace:101,26,117,26,521 getuid:102,24,174,24
syslog:103,103,116,103 getgid:104,47,176,47 setuid:105,23,146,23 setgid:106,46,144,46 geteuid:107,49,175,49
getegid:108,50,177,50 setpgid:109,57,154,57 getppid:110,64,173,64 getpgrp:111,65,-,65 setsid:112,66,157,66
setreuid:113,70,145,70 setregid:114,71,143,71 getgroups:115,80,158,80 setgroups:116,81,159,81
setresuid:117,164,147,164 getresuid:118,165,148,165 setresgid:119,170,149,170 getresgid:120,171,150,171
getpgid:121,132,155,132 setfsuid:122,138,151,138 setfsgid:123,139,152,139 getsid:124,147,156,147
capget:125,184,90,184 capset:126,185,91,185 rt_sigpending:127,176,136,176,522
rt_sigtimedwait:128,177,137,177,523 rt_sigqueueinfo:129,178,138,178,524 rt_sigsuspend:130,179,133,179
sigaltstack:131,186,132,186,525 utime:132,30,-,- mknod:133,14,-,14 uselib:134,86,-,86,-
personality:135,136,92,136 ustat:136,62,-,62 statfs:137,99,43,99 fstatfs:138,100,44,100 sysfs:139,135,-,135
getpriority:140,96,141,96 setpriority:141,97,140,97 sched_setparam:142,154,118,154
sched_getparam:143,155,121,155 sched_setscheduler:144,156,119,156 sched_getscheduler:145,157,120,157
sched_get_priority_max:146,159,125,159 sched_get_priority_min:147,160,126,160
sched_rr_get_interval:148,161,127,161 mlock:149,150,228,150 munlock:150,151,229,151 mlockall:151,152,230,152
munlockall:152,153,231,153 vhangup:153,111,58,111 modify_ldt:154,123,-,- pivot_root:155,217,41,218
_sysctl:156,149,-,149,- prctl:157,172,167,172 arch_prctl:158,384,-,- adjtimex:159,124,171,124
setrlimit:160,75,164,75 chroot:161,61,51,61 sync:162,36,81,36 acct:163,51,89,51 settimeofday:164,79,170,79
mount:165,21,40,21 umount2:166,52,39,52 swapon:167,87,224,87 swapoff:168,115,225,115 reboot:169,88,142,88
sethostname:170,74,161,74 setdomainname:171,121,162,121 iopl:172,110,-,- ioperm:173,101,-,-
create_module:174,127,-,-,- init_module:175,128,105,128 delete_module:176,129,106,129
get_kernel_syms:177,130,-,-,- query_module:178,167,-,-,- quotactl:179,131,60,131 nfsservctl:180,169,42,169,-
getpmsg:181,188,-,- putpmsg:182,189,-,- afs_syscall:183,137,-,- tuxcall:184,-,-,- security:185,-,-,-
gettid:186,224,178,224 readahead:187,225,213,225 setxattr:188,226,5,226 lsetxattr:189,227,6,227
fsetxattr:190,228,7,228 getxattr:191,229,8,229 lgetxattr:192,230,9,230 fgetxattr:193,231,10,231
listxattr:194,232,11,232 llistxattr:195,233,12,233 flistxattr:196,234,13,234 removexattr:197,235,14,235
lremovexattr:198,236,15,236 fremovexattr:199,237,16,237 tkill:200,238,130,238 time:201,13,-,-
futex:202,240,98,240 sched_setaffinity:203,241,122,241 sched_getaffinity:204,242,123,242
set_thread_area:205,243,-,-,- io_setup:206,245,0,243,543 io_destroy:207,246,1,244 io_getevents:208,247,4,245
io_submit:209,248,2,246,544 io_cancel:210,249,3,247 get_thread_area:211,244,-,-,-
lookup_dcookie:212,253,18,249 epoll_create:213,254,-,250 epoll_ctl_old:214,-,-,-,-
epoll_wait_old:215,-,-,-,- remap_file_pages:216,257,234,253 getdents64:217,220,61,217
set_tid_address:218,258,96,256 restart_syscall:219,0,128,0 semtimedop:220,-,192,312 fadvise64:221,250,223,-
timer_create:222,259,107,257,526 timer_settime:223,260,110,258 timer_gettime:224,261,108,259
timer_getoverrun:225,262,109,260 timer_delete:226,263,111,261 clock_settime:227,264,112,262
clock_gettime:228,265,113,263 clock_getres:229,266,114,264 clock_nanosleep:230,267,115,265
exit_group:231,252,94,248 epoll_wait:232,256,-,252 epoll_ctl:233,255,21,251 tgkill:234,270,131,268
utimes:235,271,-,269 vserver:236,273,-,313,- mbind:237,274,235,319 set_mempolicy:238,276,237,321
get_mempolicy:239,275,236,320 mq_open:240,277,180,274 mq_unlink:241,278,181,275 mq_timedsend:242,279,182,276
mq_timedreceive:243,280,183,277 mq_notify:244,281,184,278,527 mq_getsetattr:245,282,185,279
kexec_load:246,283,104,347,528 waitid:247,284,95,280,529 add_key:248,286,217,309 request_key:249,287,218,310
keyctl:250,288,219,311 ioprio_set:251,289,30,314 ioprio_get:252,290,31,315 inotify_init:253,291,-,316
inotify_add_watch:254,292,27,317 inotify_rm_watch:255,293,28,318 migrate_pages:256,294,238,400
openat:257,295,56,322 mkdirat:258,296,34,323 mknodat:259,297,33,324 fchownat:260,298,54,325
futimesat:261,299,-,326 newfstatat:262,-,79,- unlinkat:263,301,35,328 renameat:264,302,38,329
linkat:265,303,37,330 symlinkat:266,304,36,331 readlinkat:267,305,78,332 fchmodat:268,306,53,333
faccessat:269,307,48,334 pselect6:270,308,72,335 ppoll:271,309,73,336 unshare:272,310,97,337
set_robust_list:273,311,99,338,530 get_robust_list:274,312,100,339,531 splice:275,313,76,340
tee:276,315,77,342 sync_file_range:277,314,84,- vmsplice:278,316,75,343,532 move_pages:279,317,239,344,533
utimensat:280,320,88,348 epoll_pwait:281,319,22,346 signalfd:282,321,-,349 timerfd_create:283,322,85,350
eventfd:284,323,-,351 fallocate:285,324,47,352 timerfd_settime:286,325,86,353 timerfd_gettime:287,326,87,354
accept4:288,364,242,366 signalfd4:289,327,74,355 eventfd2:290,328,19,356 epoll_create1:291,329,20,357
dup3:292,330,24,358 pipe2:293,331,59,359 inotify_init1:294,332,26,360 preadv:295,333,69,361,534
pwritev:296,334,70,362,535 rt_tgsigqueueinfo:297,335,240,363,536 perf_event_open:298,336,241,364
recvmmsg:299,337,243,365,537 fanotify_init:300,338,262,367 fanotify_mark:301,339,263,368
prlimit64:302,340,261,369 name_to_handle_at:303,341,264,370 open_by_handle_at:304,342,265,371
clock_adjtime:305,343,266,372 syncfs:306,344,267,373 sendmmsg:307,345,269,374,538 setns:308,346,268,375
getcpu:309,318,168,345 process_vm_readv:310,347,270,376,539 process_vm_writev:311,348,271,377,540
kcmp:312,349,272,378 finit_module:313,350,273,379 sched_setattr:314,351,274,380
sched_getattr:315,352,275,381 renameat2:316,353,276,382 seccomp:317,354,277,383 getrandom:318,355,278,384
memfd_create:319,356,279,385 kexec_file_load:320,-,294,401 bpf:321,357,280,386 execveat:322,358,281,387,545
userfaultfd:323,374,282,388 membarrier:324,375,283,389 mlock2:325,376,284,390
copy_file_range:326,377,285,391 preadv2:327,378,286,392,546 pwritev2:328,379,287,393,547
pkey_mprotect:329,380,288,394 pkey_alloc:330,381,289,395 pkey_free:331,382,290,396 statx:332,383,291,397
io_pgetevents:333,385,292,399 rseq:334,386,293,398 uretprobe:335,-,-,-,- pidfd_send_signal:424
io_uring_setup:425 io_uring_enter:426 io_uring_register:427 open_tree:428 move_mount:429 fsopen:430
fsconfig:431 fsmount:432 fspick:433 pidfd_open:434 clone3:435 close_range:436 openat2:437 pidfd_getfd:438
faccessat2:439 process_madvise:440 epoll_pwait2:441 mount_setattr:442 quotactl_fd:443
landlock_create_ruleset:444 landlock_add_rule:445 landlock_restrict_self:446 memfd_secret:447,447,447,-
process_mrelease:448 futex_waitv:449 set_mempolicy_home_node:450 cachestat:451 fchmodat2:452
map_shadow_stack:453 futex_wake:454 futex_wait:455 futex_requeue:456 statmount:457 listmount:458
lsm_get_self_attr:459 lsm_set_self_attr:460 lsm_list_modules:461 mseal:462 setxattrat:463 getxattrat:464
listxattrat:465 removexattrat:466 open_tree_attr:467 file_getattr:468 file_setattr:469 listns:470
_llseek:-,140,-,140 _newselect:-,142,-,142 arm_fadvise64_64:-,-,-,270 arm_sync_file_range:-,-,-,341
bdflush:-,134,-,134 break:-,17,-,- breakpoint:-,-,-,983041 cacheflush:-,-,-,983042 chown32:-,212,-,212
clock_adjtime64:-,405,-,405 clock_getres_time64:-,406,-,406 clock_gettime64:-,403,-,403
clock_nanosleep_time64:-,407,-,407 clock_settime64:-,404,-,404 fadvise64_64:-,272,-,- fchown32:-,207,-,207
fcntl64:-,221,-,221 fstat64:-,197,-,197 fstatat64:-,300,-,327 fstatfs64:-,269,-,267 ftime:-,35,-,-
ftruncate64:-,194,-,194 futex_time64:-,422,-,422 get_tls:-,-,-,983046 getegid32:-,202,-,202
geteuid32:-,201,-,201 getgid32:-,200,-,200 getgroups32:-,205,-,205 getresgid32:-,211,-,211
getresuid32:-,209,-,209 getuid32:-,199,-,199 gtty:-,32,-,- idle:-,112,-,- io_pgetevents_time64:-,416,-,416
ipc:-,117,-,- lchown32:-,198,-,198 lock:-,53,-,- lstat64:-,196,-,196 mmap2:-,192,-,192 mpx:-,56,-,-
mq_timedreceive_time64:-,419,-,419 mq_timedsend_time64:-,418,-,418 nice:-,34,-,34 oldfstat:-,28,-,-
oldlstat:-,84,-,- oldolduname:-,59,-,- oldstat:-,18,-,- olduname:-,109,-,- pciconfig_iobase:-,-,-,271
pciconfig_read:-,-,-,272 pciconfig_write:-,-,-,273 ppoll_time64:-,414,-,414 prof:-,44,-,- profil:-,98,-,-
pselect6_time64:-,413,-,413 readdir:-,89,-,- recv:-,-,-,291 recvmmsg_time64:-,417,-,417
rt_sigtimedwait_time64:-,421,-,421 sched_rr_get_interval_time64:-,423,-,423 semtimedop_time64:-,420,-,420
send:-,-,-,289 sendfile64:-,239,-,239 set_tls:-,-,-,983045 setfsgid32:-,216,-,216 setfsuid32:-,215,-,215
setgid32:-,214,-,214 setgroups32:-,206,-,206 setregid32:-,204,-,204 setresgid32:-,210,-,210
setresuid32:-,208,-,208 setreuid32:-,203,-,203 setuid32:-,213,-,213 sgetmask:-,68,-,- sigaction:-,67,-,67
signal:-,48,-,- sigpending:-,73,-,73 sigprocmask:-,126,-,126 sigreturn:-,119,-,119 sigsuspend:-,72,-,72
socketcall:-,102,-,- ssetmask:-,69,-,- stat64:-,195,-,195 statfs64:-,268,-,266 stime:-,25,-,- stty:-,31,-,-
timer_gettime64:-,408,-,408 timer_settime64:-,409,-,409 timerfd_gettime64:-,410,-,410
timerfd_settime64:-,411,-,411 truncate64:-,193,-,193 ugetrlimit:-,191,-,191 ulimit:-,58,-,- umount:-,22,-,-
usr26:-,-,-,983043 usr32:-,-,-,983044 utimensat_time64:-,412,-,412 vm86:-,166,-,- vm86old:-,113,-,-
waitpid:-,7,-,-
"""


@cache
def numbers(abi: str) -> dict[str, int]:
    """``{"read": 0, …}`` for one of ABIS. The numbers of x32 carry X32_BIT."""
    column = ABIS.index(abi)
    found = {}
    for entry in _TABLE.split():
        name, _, listed = entry.partition(":")
        columns = listed.split(",")
        if len(columns) == 1:
            columns *= len(ABIS)
        elif len(columns) == column == 4:
            columns.append(columns[0])
        if columns[column] != "-":
            found[name] = int(columns[column]) | (X32_BIT if abi == "x32" else 0)
    return found


# On x86 two old calls stand for many, chosen by their first argument: socketcall(2) and ipc(2).
_SOCKETCALL = (
    "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom "
    "shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"
)
_IPC = {"semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13,
        "msgctl": 14, "shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24}  # fmt: skip
_BEHIND = {name: ("socketcall", number) for number, name in enumerate(_SOCKETCALL.split(), start=1)}
_BEHIND |= {name: ("ipc", number) for name, number in _IPC.items()}


def ways_to_call(name: str, abi: str) -> list[tuple[int, tuple[tuple[int, str, int, int], ...]]]:
    """Every (number, conditions) by which a program of *abi* can make the call *name*; none: unknown."""
    known = numbers(abi)
    ways: list[tuple[int, tuple[tuple[int, str, int, int], ...]]] = []
    if name in known:
        ways.append((known[name], ()))
    if abi == "x86" and name in _BEHIND:
        carrier, chosen = _BEHIND[name]
        ways.append((known[carrier], ((0, "EQ", chosen, 0),)))
    return ways
