/** @file
 * Which form of a kernel `tsk_K` is: the fastest that TSK_KERNELS allows. All forms of a kernel give the same bits.
 * Included by tsk_kernels.h, which says what each kernel does. */
#ifndef TSK_SELECT_H
#define TSK_SELECT_H

#include "tsk_kernels.h"

#if TSK_KERNELS == TSK_KERNELS_DSP
#define TSK_FAST(kernel) kernel##_dsp
#elif TSK_KERNELS == TSK_KERNELS_MVE
#define TSK_FAST(kernel) kernel##_mve
#else
#define TSK_FAST(kernel) kernel##_plain
#endif

/* Kernels that have fast forms. */
#define tsk_fc_s8 TSK_FAST(tsk_fc_s8)
#define tsk_matmul_s8 TSK_FAST(tsk_matmul_s8)
#define tsk_softmax_s8 TSK_FAST(tsk_softmax_s8)
#define tsk_add_s8 TSK_FAST(tsk_add_s8)
#define tsk_mul_s8 TSK_FAST(tsk_mul_s8)
#define tsk_squared_difference_s8 TSK_FAST(tsk_squared_difference_s8)
#define tsk_lut_s8 TSK_FAST(tsk_lut_s8)
#define tsk_reduce_s8 TSK_FAST(tsk_reduce_s8)

#if TSK_KERNELS != TSK_KERNELS_PLAIN
void tsk_fc_s8(const tsk_fc_s8_t *p, const int8_t *x, int8_t *y, int32_t rows, void *scratch);
void tsk_matmul_s8(const tsk_matmul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, void *scratch);
void tsk_softmax_s8(const tsk_softmax_s8_t *p, const int8_t *x, int8_t *y, int32_t rows);
void tsk_add_s8(const tsk_add_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows);
void tsk_mul_s8(const tsk_mul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y, int32_t rows);
void tsk_squared_difference_s8(const tsk_squared_difference_s8_t *p, const int8_t *a, const int8_t *b, int8_t *y,
                               int32_t rows);
void tsk_lut_s8(const tsk_lut_s8_t *p, const int8_t *x, int8_t *y, int32_t rows);
void tsk_reduce_s8(const tsk_reduce_s8_t *p, const int8_t *x, int8_t *y, int32_t rows);
#endif

/* Kernels with a plain form only. */
#define tsk_fc_s16 tsk_fc_s16_plain
#define tsk_matmul_s16 tsk_matmul_s16_plain
#define tsk_softmax_s16 tsk_softmax_s16_plain
#define tsk_add_s16 tsk_add_s16_plain
#define tsk_add_s32 tsk_add_s32_plain
#define tsk_mul_s16 tsk_mul_s16_plain
#define tsk_extremum_s8 tsk_extremum_s8_plain
#define tsk_extremum_s16 tsk_extremum_s16_plain
#define tsk_extremum_s32 tsk_extremum_s32_plain
#define tsk_lut_s16 tsk_lut_s16_plain
#define tsk_rsqrt_s16 tsk_rsqrt_s16_plain
#define tsk_sigmoid_s16 tsk_sigmoid_s16_plain
#define tsk_reduce_s16 tsk_reduce_s16_plain
#define tsk_reduce_u8 tsk_reduce_u8_plain
#define tsk_gather tsk_gather_plain
#define tsk_copy tsk_copy_plain
#define tsk_fill tsk_fill_plain
#define tsk_update_slice tsk_update_slice_plain
#define tsk_select tsk_select_plain
#define tsk_arg_s8 tsk_arg_s8_plain
#define tsk_cast tsk_cast_plain
#define tsk_requantize tsk_requantize_plain
#define tsk_quantize tsk_quantize_plain
#define tsk_dequantize tsk_dequantize_plain

#endif
