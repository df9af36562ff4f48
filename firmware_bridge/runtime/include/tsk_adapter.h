/** @file
 * The answer of a classifier: base logits, the adapter's term, the best label and how sure it is.
 * Everything is float32, and needs no libm; the label is that of the SDK, a tie in the last bit of a sum aside.
 * Pointers must not be NULL unless a comment says so. */
#ifndef TSK_ADAPTER_H
#define TSK_ADAPTER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What turns the model's integers into an answer. With codes z of the base logits and h of the features, label l has
 *     step * (z[l] - zero) + sum_j weight[l][j] * h[j] + bias[l],
 * the calibrated logit: temperature, scales and the features' zero points are folded in. Labels that a device has added
 * come after the model's and have no z. */
typedef struct {
    const char *const *names; /**< [labels], UTF-8 */
    int32_t labels, logits;   /**< of which the first `logits` are the model's */
    int32_t features;
    int32_t zero;
    float step;
    const float *weight; /**< [labels][features], or NULL: the features are not looked at */
    const float *bias;   /**< [labels], or NULL: there is no adapter */
    float gate;          /**< above 0: where the model is sure by this `step`, it answers without the adapter */
    float floor;         /**< an answer below it is unsure */
} tsk_adapter_t;

/** An answer. */
typedef struct {
    int32_t label;     /**< its number, 0 to labels - 1 */
    const char *name;  /**< of the label */
    float confidence;  /**< calibrated probability */
    float second;      /**< that of the second best label */
    int32_t sure;      /**< 1 if the label, and no other, reaches the floor; else ask, don't act */
} tsk_answer_t;

/** The best label, of equals the first.
 * @param logits   int8 [logits], as the model gives them
 * @param features int8 [features] of all depths; not read without `weight` */
void tsk_adapter_answer(const tsk_adapter_t *p, const int8_t *logits, const int8_t *features, tsk_answer_t *answer);

#ifdef __cplusplus
}
#endif

#endif
