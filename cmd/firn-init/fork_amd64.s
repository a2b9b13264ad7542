#include "textflag.h"

// System calls of linux/amd64.
#define SYS_exit	60
#define SYS_clone3	435

// func cloneAndRun(args *cloneArgs, list *systemCall) int
//
// The child has the parent's memory and stack, and touches the stack nowhere,
// so that the parent need not wait for it. It makes one call after the other;
// the last executes a program. A negative result ends it, and is left in the
// list for the parent.
TEXT ·cloneAndRun(SB),NOSPLIT,$0-24
	MOVQ list+8(FP), R12
	MOVL $SYS_clone3, AX
	MOVQ args+0(FP), DI
	MOVL $88, SI // CLONE_ARGS_SIZE_VER2
	SYSCALL
	TESTQ AX, AX
	JEQ  child
	MOVQ AX, ret+16(FP)
	RET

child:
	MOVQ 0(R12), AX
	MOVQ 8(R12), DI
	MOVQ 16(R12), SI
	MOVQ 24(R12), DX
	MOVQ 32(R12), R10
	MOVQ 40(R12), R8
	MOVQ 48(R12), R9
	SYSCALL
	MOVQ AX, 56(R12)
	TESTQ AX, AX
	JLT  end
	ADDQ $64, R12
	JMP  child

end:
	MOVL $1, DI
	MOVL $SYS_exit, AX
	SYSCALL
	INT  $3
