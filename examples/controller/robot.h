/* The robot: what it measures and what it is told, in the order of policy.h. Here it is simulated by MuJoCo; on a real
 * one, robot.c is the file to write anew. */
#ifndef ROBOT_H
#define ROBOT_H

/* Load the model and find every observation and actuator of the policy by its name. 0, or what is wrong is said. */
int robot_open(const char *model_file);

/* Measure: obs[POLICY_OBS_DIM]. */
void robot_read(float obs[]);

/* Apply actions[POLICY_ACTION_DIM] for one control period. */
void robot_write(const float actions[]);

/* How far it has come, in metres along x. */
double robot_distance(void);

void robot_close(void);

#endif
