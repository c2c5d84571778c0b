/* The robot in MuJoCo. Observations of Humanoid-v5 and its like are entries of mjData, such as "cinert[3][9]", and found
 * by name, as are the actuators: the order of the model's own lists does not matter. */
#include "robot.h"

#include <mujoco/mujoco.h>
#include <stdio.h>
#include <string.h>

#include "policy.h"

static mjModel *model;
static mjData *data;
static const mjtNum *sources[POLICY_OBS_DIM];
static int actuators[POLICY_ACTION_DIM];
static int substeps;

/* Other tasks clip what they observe, or compute it: their robot_read would have to do the same. */
static int is_plain(const char *task)
{
    static const char *const plain[] = {"Humanoid-v5", "HumanoidStandup-v5", "HalfCheetah-v5", "Swimmer-v5",
                                        "InvertedPendulum-v5"};
    size_t i;
    for (i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (strcmp(task, plain[i]) == 0)
            return 1;
    return 0;
}

/* The place of "qvel[3]" or "cvel[2][5]" in mjData, or NULL. */
static const mjtNum *place_of(const char *name)
{
    struct quantity {
        const char *name;
        const mjtNum *start;
        int rows, columns;
    };
    const struct quantity known[] = {
        {"qpos", data->qpos, (int)model->nq, 1},
        {"qvel", data->qvel, (int)model->nv, 1},
        {"qfrc_actuator", data->qfrc_actuator, (int)model->nv, 1},
        {"cinert", data->cinert, (int)model->nbody, 10},
        {"cvel", data->cvel, (int)model->nbody, 6},
        {"cfrc_ext", data->cfrc_ext, (int)model->nbody, 6},
    };
    char quantity[32];
    int row = 0, column = 0, given = sscanf(name, "%31[a-z_][%d][%d]", quantity, &row, &column);
    size_t i;
    for (i = 0; i < sizeof known / sizeof known[0]; i++)
        if (given >= 2 && strcmp(quantity, known[i].name) == 0 && row >= 0 && row < known[i].rows && column >= 0 &&
            column < known[i].columns)
            return known[i].start + row * known[i].columns + column;
    return NULL;
}

/* The actuator of this name, or the one that drives the joint of this name, or -1. */
static int actuator_of(const char *name)
{
    int id = mj_name2id(model, mjOBJ_ACTUATOR, name), joint = mj_name2id(model, mjOBJ_JOINT, name);
    for (int i = 0; id < 0 && joint >= 0 && i < (int)model->nu; i++)
        if (model->actuator_trntype[i] == mjTRN_JOINT && model->actuator_trnid[2 * i] == joint)
            id = i;
    return id;
}

int robot_open(const char *model_file)
{
    char error[500] = "";
    int i;
    if (!is_plain(POLICY_ENV)) {
        fprintf(stderr, "this robot does not measure what %s observes\n", POLICY_ENV);
        return 1;
    }
    model = mj_loadXML(model_file, NULL, error, (int)sizeof error);
    if (model == NULL) {
        fprintf(stderr, "%s: %s\n", model_file, error);
        return 1;
    }
    data = mj_makeData(model);
    substeps = (int)(POLICY_PERIOD / model->opt.timestep + 0.5);
    for (i = 0; i < POLICY_OBS_DIM; i++) {
        sources[i] = place_of(policy_obs_name(i));
        if (sources[i] == NULL) {
            fprintf(stderr, "%s: nothing measures %s\n", model_file, policy_obs_name(i));
            return 1;
        }
    }
    for (i = 0; i < POLICY_ACTION_DIM; i++) {
        actuators[i] = actuator_of(policy_action_name(i));
        if (actuators[i] < 0) {
            fprintf(stderr, "%s: no actuator is called %s\n", model_file, policy_action_name(i));
            return 1;
        }
    }
    mj_forward(model, data);
    return 0;
}

void robot_read(float obs[])
{
    for (int i = 0; i < POLICY_OBS_DIM; i++)
        obs[i] = (float)*sources[i];
}

void robot_write(const float actions[])
{
    int i;
    for (i = 0; i < POLICY_ACTION_DIM; i++)
        data->ctrl[actuators[i]] = actions[i];
    for (i = 0; i < substeps; i++)
        mj_step(model, data);
    mj_rnePostConstraint(model, data); /* the contact forces that Humanoid observes */
}

double robot_distance(void)
{
    return data->qpos[0];
}

void robot_close(void)
{
    mj_deleteData(data);
    mj_deleteModel(model);
}
