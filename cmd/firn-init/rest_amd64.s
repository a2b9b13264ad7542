#include "textflag.h"

// System calls and constants of linux/amd64.
#define SYS_poll		7
#define SYS_rt_sigprocmask	14
#define SYS_sendto		44
#define SYS_clone		56
#define SYS_execve		59
#define SYS_exit		60
#define SYS_prctl		157
#define SYS_exit_group		231
#define SYS_waitid		247
#define SYS_signalfd4		289

// What lies on the stack while init rests.
#define mask	0   // of signals: SIGCHLD
#define packet	16  // the message Rested
#define info	32  // siginfo_t
#define child	44  // its si_pid
#define fds	160 // two struct pollfd
#define argv	176

DATA ·self<>+0(SB)/8, $"/proc/se"
DATA ·self<>+8(SB)/8, $"lf/exe\x00\x00"
GLOBL ·self<>(SB), RODATA|NOPTR, $16
DATA ·name<>+0(SB)/8, $"init\x00\x00\x00\x00"
GLOBL ·name<>(SB), RODATA|NOPTR, $8
GLOBL ·entered<>(SB), NOPTR, $8

// func restable() bool
TEXT ·restable(SB),NOSPLIT,$0-1
	MOVB ·entered<>(SB), AX
	MOVB AX, ret+0(FP)
	RET

// func stillborn() int
//
// clone(CLONE_VM|CLONE_VFORK|SIGCHLD): the child has the parent's stack, which
// it does not touch, and ends before the parent goes on.
TEXT ·stillborn(SB),NOSPLIT,$0-8
	MOVL $SYS_clone, AX
	MOVL $0x4111, DI
	XORL SI, SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	SYSCALL
	TESTQ AX, AX
	JNE  parent
	XORL DI, DI
	MOVL $SYS_exit, AX
	SYSCALL

parent:
	MOVQ AX, ret+0(FP)
	RET

// func entry()
//
// The kernel begins here; the stack holds argc, argv, 0, envp, 0.
TEXT ·entry(SB),NOSPLIT|NOFRAME,$0
	MOVQ SP, BX
	CMPQ (BX), $2
	JNE  full
	MOVQ 16(BX), AX      // argv[1]
	MOVL (AX), CX
	CMPL CX, $0x74736572 // "rest"
	JEQ  rest

full:
	MOVB $1, ·entered<>(SB)
	JMP  _rt0_amd64_linux(SB)

rest:
	SUBQ $512, SP
	ANDQ $~15, SP
	MOVQ SP, R13

	// prctl(PR_SET_DUMPABLE, 0): an exec has undone it.
	MOVL $SYS_prctl, AX
	MOVL $4, DI
	XORL SI, SI
	SYSCALL

	// Keep the ends of children: sigprocmask(SIG_BLOCK, {SIGCHLD}).
	MOVQ $0x10000, mask(R13)
	MOVL $SYS_rt_sigprocmask, AX
	XORL DI, DI
	LEAQ mask(R13), SI
	XORL DX, DX
	MOVL $8, R10
	SYSCALL

	// sendto(3, Rested, 5, MSG_NOSIGNAL): kind 19, sequence number 0.
	MOVQ $19, packet(R13)
	MOVL $SYS_sendto, AX
	MOVL $3, DI
	LEAQ packet(R13), SI
	MOVL $5, DX
	MOVL $0x4000, R10
	XORL R8, R8
	XORL R9, R9
	SYSCALL

	// signalfd(-1, {SIGCHLD}, SFD_CLOEXEC)
	MOVL $SYS_signalfd4, AX
	MOVQ $-1, DI
	LEAQ mask(R13), SI
	MOVL $8, DX
	MOVL $0x80000, R10
	SYSCALL
	TESTQ AX, AX
	JLT  back
	MOVQ AX, R12

	// Did one end before its signal was kept? waitid(P_ALL, 0, &info,
	// WEXITED|WNOHANG|WNOWAIT). An error means that there are no children.
	MOVL $0, child(R13)
	MOVL $SYS_waitid, AX
	XORL DI, DI
	XORL SI, SI
	LEAQ info(R13), DX
	MOVL $0x01000005, R10
	XORL R8, R8
	SYSCALL
	TESTQ AX, AX
	JNE  wait
	CMPL child(R13), $0
	JNE  back

wait:
	// poll({3, POLLIN}, {signalfd, POLLIN}, -1)
	MOVL $3, fds(R13)
	MOVL $1, fds+4(R13)
	MOVL R12, fds+8(R13)
	MOVL $1, fds+12(R13)
	MOVL $SYS_poll, AX
	LEAQ fds(R13), DI
	MOVL $2, SI
	MOVQ $-1, DX
	SYSCALL
	CMPQ AX, $-4 // EINTR
	JEQ  wait

back:
	// sigprocmask(SIG_UNBLOCK, {SIGCHLD}), or the function inherits it.
	MOVL $SYS_rt_sigprocmask, AX
	MOVL $1, DI
	LEAQ mask(R13), SI
	XORL DX, DX
	MOVL $8, R10
	SYSCALL

	// execve("/proc/self/exe", {"init"}, envp)
	LEAQ ·name<>(SB), AX
	MOVQ AX, argv(R13)
	MOVQ $0, argv+8(R13)
	MOVQ (BX), CX
	LEAQ 16(BX)(CX*8), DX
	LEAQ ·self<>(SB), DI
	LEAQ argv(R13), SI
	MOVL $SYS_execve, AX
	SYSCALL

	MOVL $1, DI
	MOVL $SYS_exit_group, AX
	SYSCALL
	INT  $3
